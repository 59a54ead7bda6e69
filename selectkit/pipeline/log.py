"""The log of a run, log.jsonl: one line per event, and per epoch of a training."""

import json
from pathlib import Path
from typing import Any

LOG = "log.jsonl"


def log_event(run: Path, event: str, /, **fields: Any) -> None:
    """Append one event to the log of a run directory, made or yet to be made."""
    import structlog

    with (run / LOG).open("a", encoding="utf-8") as file:
        logger = structlog.wrap_logger(
            structlog.WriteLogger(file),
            processors=[
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
        logger.info(event, **json.loads(json.dumps(fields, default=str)))


def events_since_fit(run: Path) -> list[dict[str, Any]]:
    """Return the events of a run since its head was fitted, oldest first."""
    path = run / LOG
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    events = [json.loads(line) for line in lines]
    fits = [i for i, event in enumerate(events) if event["event"] == "fit"]
    return events[fits[-1] :] if fits else events
