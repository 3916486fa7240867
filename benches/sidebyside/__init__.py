"""Side-by-side runs of Imperator and other servers: `runs` says what, `servers` starts, `measure` counts, `report` tells."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
