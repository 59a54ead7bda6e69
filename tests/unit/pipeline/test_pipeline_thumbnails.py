import numpy as np

from selectkit.pipeline.thumbnails import hardest


def test_the_hardest_are_the_most_extreme_and_of_equal_scores_the_likeliest() -> None:
    score = np.array([0.9, 0.9, 0.8, 0.99, -np.inf, -np.inf])
    likely = np.array([0.5, 0.7, 0.9, 0.6, 0.8, 0.4])
    among = np.array([True, True, True, False, True, True])
    assert hardest(score, among, 3, highest=True, likely=likely).tolist() == [1, 0, 2]
    assert hardest(score, among, 3, highest=False, likely=likely).tolist() == [5, 4, 2]
