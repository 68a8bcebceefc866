"""What a run says to people: its story, its state, a comparison. Reads only the documents in the run folder."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast.core.documents import read_json
from holdfast.core.manifest import read_manifest
from holdfast.core.measures import TITLES, main_scores
from holdfast.core.records import read_jsonl
from holdfast.core.rundir import STAGE_NAMES, RunDir

SAMPLES_SHOWN = 3
WIDTH = 100
COLUMNS = (12, 13)  # widths of the columns of scores


def summarize_run(folder: Path) -> dict[str, Any]:
    """The decided run as one document: the `--json` answer of `demo` and `run`."""
    run_dir = RunDir(folder)
    decision = read_json(run_dir.stage("decide").path / "decision.json")
    names = ("verdict", "exit_code", "baseline", "tuned", "deployed", "items", "p_value", "difference", "reasons")
    return {name: decision[name] for name in names} | {"seconds": stage_seconds(run_dir), "run_dir": str(folder)}


def stage_seconds(run_dir: RunDir) -> dict[str, float]:
    """How long each finished stage took, from its manifest."""
    manifests = {name: read_manifest(run_dir.stage(name).path) for name in STAGE_NAMES}
    return {name: manifest.seconds for name, manifest in manifests.items() if manifest is not None}


def tell_story(folder: Path) -> str:
    """The run in one page: verdict first, then the table, what was learned from what, answers side by side, next."""
    run_dir = RunDir(folder)
    decision = read_json(run_dir.stage("decide").path / "decision.json")
    parts = [
        [f"{decision['verdict'].upper()}: {decision['reasons'][0]}", *(f"  {r}" for r in decision["reasons"][1:])],
        _table(decision),
        _ladder(run_dir, decision["primary"]),
        _learned(run_dir),
        _answers(run_dir),
        _where(run_dir, decision),
    ]
    return "\n" + "\n\n".join("\n".join(part) for part in parts)


def _table(decision: Mapping[str, Any]) -> list[str]:
    rows = [("baseline", decision["baseline"]), ("tuned", decision["tuned"])]
    rows += [(f"GGUF {quant}", result) for quant, result in decision["deployed"].items()]
    names = main_scores(decision["tuned"])
    lines = [f"{'':18}{_titles(names)}{'items':>8}"]
    lines += [f"{name:18}{_shares(names, r)}{r['n']:>8}" for name, r in rows]
    d = decision["difference"]
    lines.append(
        f"tuned - baseline: {100 * d['estimate']:+z.1f} points ({100 * d['confidence']:g} % interval "
        f"{100 * d['low']:+z.1f} to {100 * d['high']:+z.1f}), exact McNemar p = {decision['p_value']:.2g}"
    )
    return lines


def _ladder(run_dir: RunDir, metric: str) -> list[str]:
    """Rung by rung from what was trained to what is deployed: the primary score, KL to the rung above, size, speed."""
    ladder = read_json(run_dir.stage("verify").path / "ladder.json")
    lines = [f"{'the ladder':18}{TITLES.get(metric, metric):>13}{'KL to above':>13}{'MiB':>9}{'tokens/s':>10}"]
    for rung in (*ladder.get("before", ()), *ladder["rungs"]):
        name = {"adapter": f"{rung.get('precision', '')} + adapter"}.get(rung["rung"], rung["rung"])
        kl = f"{rung['kl_to_above']['mean']:.1e}" if rung.get("kl_to_above") else "–"
        speed = rung.get("tokens_per_second")
        marked = f"{name}{' *' if rung['rung'] == ladder['deploy'] else ''}"
        lines.append(
            f"{marked:18}{_share(rung, metric):>13}{kl:>13}{rung['size_bytes'] / 2**20:>9.1f}"
            f"{'–' if speed is None else f'{speed:.0f}':>10}"
        )
    return [*lines, f"* to be deployed ({ladder.get('why', 'named in the configuration')})"]


def _share(rung: Mapping[str, Any], metric: str) -> str:
    return f"{100 * rung[metric]:.1f} %" if metric in rung else "–"


def _titles(names: Sequence[str]) -> str:
    return "".join(f"{TITLES.get(name, name):>{width}}" for name, width in zip(names, _widths(names), strict=True))


def _shares(names: Sequence[str], result: Mapping[str, Any]) -> str:
    return "".join(f"{100 * result[name]:>{w - 2}.1f} %" for name, w in zip(names, _widths(names), strict=True))


def _widths(names: Sequence[str]) -> list[int]:
    more = [max(13, len(name) + 2) for name in names[len(COLUMNS) :]]
    return [*COLUMNS[: len(names)], *more]


def _learned(run_dir: RunDir) -> list[str]:
    report = read_json(run_dir.stage("prepare").path / "report.json")
    training = read_json(run_dir.stage("train").path / "training.json")
    rows, audit = report["rows"], report["token_audit"]
    largest = report["split_proof"]["largest"]
    similar = f"largest similarity between splits {largest['similarity']:.2f}" if largest else "nothing similar"
    splits = f"checked on {rows['valid']}, tested on {rows['test']}"
    first, last = training["first_loss"], training["last_loss"]
    return [
        f"learned from   {rows['train']} examples ({audit['trained_tokens']} trained tokens, "
        f"{100 * audit['trained_share']:.0f} % of all), {splits}; {similar}",
        f"training       {training['steps']} steps on {training['device']}"
        + (f", loss {first:.2f} to {last:.2f}" if first is not None else "")
        + f", {training['trainable_parameters']:,} adapter weights{_cost(training)}",
        f"{_fit(run_dir)}",
        f"seconds        {', '.join(f'{name} {s:.0f}' for name, s in stage_seconds(run_dir).items())}",
    ]


def _cost(training: Mapping[str, Any]) -> str:
    """Speed, and what the card used where it counts."""
    speed, energy = training.get("tokens_per_second"), training.get("energy_kwh")
    return (f", {speed:,.0f} tokens/s" if speed else "") + (f", {energy:.3g} kWh" if energy else "")


def _fit(run_dir: RunDir) -> str:
    plan = read_json(run_dir.stage("plan").path / "plan.json")
    fullest = max(plan["phases"], key=lambda phase: phase["needed"] / max(1, phase["usable"]))
    return (
        f"fit            the fullest phase is {fullest['phase']}: {fullest['needed'] / 2**30:.2f} of "
        f"{fullest['usable'] / 2**30:.2f} GiB {fullest['place']} (estimate)"
    )


def _answers(run_dir: RunDir) -> list[str]:
    """Three items where the models differ, spread over the labels."""
    verify = run_dir.stage("verify").path
    ladder = read_json(verify / "ladder.json")
    files = {
        "baseline": run_dir.stage("baseline").path / "samples.jsonl",
        "tuned": run_dir.stage("evaluate").path / "samples.jsonl",
        "deployed": verify / f"samples-{ladder['deploy']}.jsonl",
    }
    rows = {name: {row["id"]: row for _, row in read_jsonl(path)} for name, path in files.items()}
    lines = ["three answers, side by side"]
    instruction = _instruction(run_dir)
    for item in _choose(list(rows["tuned"].values())):
        lines.append(f"  asked     {_short(item['prompt_text'].removeprefix(instruction))}")
        lines.append(f"  expected  {_short(item['expected'])}")
        lines += [f"  {name:9} {_short(rows[name][item['id']]['output']) or '(nothing)'}" for name in rows]
        lines.append("")
    return lines[:-1]


def _choose(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    chosen: dict[Any, dict[str, Any]] = {}
    for row in rows:
        chosen.setdefault(row.get("expected_label"), row)
    return (list(chosen.values()) + [row for row in rows if row not in chosen.values()])[:SAMPLES_SHOWN]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def _where(run_dir: RunDir, decision: Mapping[str, Any]) -> list[str]:
    export = run_dir.stage("export").path
    deployed = read_json(run_dir.stage("verify").path / "ladder.json")["deploy"]
    gguf = next(iter(sorted(export.glob(f"*-{deployed}.gguf"))), export)
    evidence = run_dir.stage("decide").path / "decision.md"
    lines = [
        f"adapter        {run_dir.stage('train').path / 'adapter'}",
        f"to deploy      {gguf}",
        f"evidence       {evidence}",
    ]
    run = shlex.quote(str(run_dir.path))
    after = f"holdfast serve {run}" if decision["verdict"] == "keep" else f"read {evidence}"
    ask = f'holdfast ask {run} "{_question(run_dir)}"' if decision["verdict"] == "keep" else ""
    return lines + [f"next           {after}"] + ([f"               {ask}"] if ask else [])


def _question(run_dir: RunDir) -> str:
    """A test question that fits on a command line; `ask` puts the instruction before it."""
    instruction = _instruction(run_dir)
    rows = read_jsonl(run_dir.stage("evaluate").path / "samples.jsonl")
    asked = [row["prompt_text"].removeprefix(instruction).strip() for _, row in rows]
    return min((text for text in asked if not set(text) & set('"\n$`!\\')), key=len, default="…")


def _instruction(run_dir: RunDir) -> str:
    return str(read_json(run_dir.stage("prepare").path / "task.json").get("instruction") or "")


def render_status(document: Mapping[str, Any]) -> str:
    """`holdfast status` as text."""
    lines = [f"{document['name']} in {document['run_dir']}: verdict {document['verdict'] or 'not reached'}"]
    for name, stage in document["stages"].items():
        more = f"  {stage['finished_at']}  {stage['seconds']:8.1f} s" if stage["state"] == "finished" else ""
        lines.append(f"  {name:10}{stage['state']:12}{more}")
    states = {stage["state"] for stage in document["stages"].values()}
    if document["verdict"] is None and states in ({"finished"}, {"finished", "damaged"}):
        run = shlex.quote(document["run_dir"])
        lines.append(f"it was decided about other files than lie here now: holdfast check {run} names them")
    if document["process"]:
        lines.append(f"process {document['process']} is at work here now")
    return "\n".join(lines)


def render_comparison(document: Mapping[str, Any]) -> str:
    """`holdfast eval` as text."""
    comparison = document["comparison"]
    d = comparison["difference"]
    names = main_scores(document["tuned"])
    lines = [f"{'':12}{_titles(names)}{'stopped':>10}{'items':>8}"]
    for name in ("baseline", "tuned"):
        r = document[name]
        lines.append(f"{name:12}{_shares(names, r)}{100 * r['stopped']:>8.1f} %{r['n']:>8}")
    lines.append(
        f"{TITLES.get(comparison['metric'], comparison['metric'])}: difference {100 * d['estimate']:+z.1f} points "
        f"({100 * d['low']:+z.1f} to {100 * d['high']:+z.1f}), "
        f"{comparison['wins']} won, {comparison['losses']} lost, p = {comparison['p_value']:.2g}; "
        f"tuned = {document['file']}"
    )
    return "\n".join(lines)
