"""Two or three lines for the end of each command's help, and for the generated reference."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "search": (
        "nas search --dataset digits --space mlp --trials 30 --name example",
        "nas search --dataset csv --data-path table.csv --budget latency_ms=5",
        "nas search runs/example/config.toml --trials 60",
        "nas search --space mlp --like example --sampler auto --name second",
    ),
    "worker": (
        "nas worker postgresql://nas@db/studies camera --data-path /scratch/data",
        "nas worker runs/camera/journal.log camera --workers 1",
    ),
    "confirm": ("nas confirm example", "nas confirm example --repeats 5 --max-candidates 4"),
    "show": ("nas show example", "nas show example --json"),
    "front": ("nas front example second", "nas front example second third --json"),
    "compare": ("nas compare example 12 5", "nas compare example 12 5 7 --json"),
    "dashboard": ("nas dashboard example", "nas dashboard example --port 9000"),
    "report": ("nas report example", "nas report runs/example --output example.html"),
    "pick": (
        "nas pick example",
        "nas pick example --max latency_ms=10 --max leakage=0.55 --prefer error",
        "nas pick example --max leakage=0.6 --prefer error --confidence 95",
        "nas pick example --weights error=2,leakage=1",
        "nas pick example --order leakage,error,latency_ms",
        "nas pick example --max latency_ms=10 --interactive",
        "nas pick example --number 12 --retrain-on-all",
    ),
    "audit": (
        "nas audit example",
        "nas audit example --pick 12",
        "nas audit example --pick 12 --artefact runs/example/picks/12/int8.onnx",
    ),
    "siblings": (
        "nas siblings example:12 example:5",
        "nas siblings runs/example/picks/12 example:12 --bits 8 --unpair",
    ),
    "export": (
        "nas export runs/example/picks/12",
        "nas export runs/example/picks/12-all --precision int8",
        "nas export runs/example/picks/12 --format c99",
    ),
    "predict": (
        "nas predict runs/example/picks/12 --data-path new.csv",
        "nas predict int8.onnx --data-path new.csv --output labels.csv",
    ),
    "estimate": (
        "nas estimate example:12",
        "nas estimate nb201-0 --device all",
        "nas estimate --space conv --input-shape 3,32,32 --set bits=8 --device all",
        "nas estimate example:12 --by-layer --plot roofline.svg",
    ),
    "measure": ("nas measure runs/example/picks/12", "nas measure --space mlp --precision int8 --rounds 15"),
    "calibrate": (
        'nas calibrate --device pump --from measurements.csv --engine "TVM 0.15"',
        "nas calibrate --device host",
    ),
    "list": ("nas list", "nas list networks", "nas list devices --json", "nas list runs"),
}


def epilog(name: str) -> str:
    """Return the examples of a command as the last lines of its help: the help breaks lines at empty ones alone."""
    return "\n\n".join(["Examples:", *EXAMPLES[name]])
