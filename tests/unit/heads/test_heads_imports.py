"""Using a head needs numpy only; torch and scipy stay out until they are needed."""

import subprocess
import sys

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it now fails
import numpy as np
import selectkit.calibrate, selectkit.heads, selectkit.policies
heavy = {"scipy", "sklearn", "pandas", "zarr", "transformers"} & set(sys.modules)
assert not heavy, heavy
x, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
head = selectkit.heads.LinearHead.fit(x, y, select=(x, y), n_classes=2)
document = {
    "type": "mlp", "n_features": 1, "n_classes": 2,
    "training": {
        "hidden": 1, "epochs": 1, "learning_rate": 1.0, "weight_decay": 0.0, "batch_size": 1,
        "patience": 1, "class_weights": None, "seed": 0, "history": [], "n_train": 4,
    },
}
tensors = {
    "mean": np.zeros(1), "scale": np.ones(1), "weights1": np.ones((1, 1)), "bias1": np.zeros(1),
    "weights2": np.array([[-1.0, 1.0]]), "bias2": np.zeros(2),
}
mlp = selectkit.heads.load(document, tensors)
print(head.logits(x).argmax(axis=1), mlp.logits(x).argmax(axis=1))
"""


def test_heads_work_where_torch_cannot_be_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_TORCH],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[0 0 1 1] [0 1 1 1]\n"
