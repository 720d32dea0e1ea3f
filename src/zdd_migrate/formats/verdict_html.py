"""A verdict as one HTML file that needs nothing else: no script, no font, no address.

Light and dark by the reader's preference, readable on a phone, and by a screen reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from zdd_migrate.formats.timeline_svg import draw
from zdd_migrate.formats.verdict import (
    cell,
    codes,
    columns,
    longest,
    of_cell,
    runs,
    waited_for,
    where,
    worst_times,
)
from zdd_migrate.model.plan import Backfill, Gate, Phase, Plan, Release, Sql, Step, Validate
from zdd_migrate.model.verdict import Failure, Judgement, StatementTime, Trial, Verdict

_HEADS = {
    Judgement.PASS: ("pass", "Passes", "Old and new code worked in every phase they live in."),
    Judgement.FAIL: ("fail", "Fails", "Something came out otherwise than it must."),
    Judgement.INCONCLUSIVE: (
        "unclear",
        "Inconclusive",
        "It could not be told whether this works, which is never counted as a pass.",
    ),
}
_WORDS = {
    "works": ("ok", "✓", "works"),
    "breaks": ("must", "✓", "breaks, as it must"),
    "FAILS": ("bad", "✗", "fails"),
    "?": ("unclear", "?", "not told"),
    "": ("none", "·", "not tried"),
}

#: statements whose time is in sight, and how many are told of at all
_FEW_TIMES, _MOST_TIMES = 6, 300
#: whatever a name in the plan tries
_NOTHING_LOADED = (
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
)


def render(verdict: Verdict, name: str = "plan", plan: Plan | None = None) -> str:
    """The whole file. With the plan, its SQL stands at the end."""
    kind, title, _ = _HEADS[verdict.judgement]
    name = plan.name if plan is not None and plan.name else name
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        _NOTHING_LOADED,
        '<meta name="color-scheme" content="light dark">',
        f"<title>{escape(name)}: {title.lower()}</title>",
        f"<style>{_STYLE}</style></head>",
        f'<body class="{kind}">',
        *_header(verdict, name),
        "<main>",
        *_failures(verdict),
        *_matrix(verdict),
        *_timeline(verdict),
        *_times(verdict),
        *_laws(verdict),
        *_rollbacks(verdict),
        *(_sql(plan, verdict) if plan is not None else ()),
        *_notes(verdict),
        "</main></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _header(verdict: Verdict, name: str) -> Iterator[str]:
    kind, title, sentence = _HEADS[verdict.judgement]
    lost = sum(r.rows_lost for r in verdict.rollbacks)
    facts = [
        (f"{verdict.statements:,}", "statements run"),
        (f"{longest(verdict):,.0f} ms", "longest wait of one"),
        (str(sum(r.to == "start" for r in verdict.rollbacks)), "ways back walked"),
        (f"{lost:,}", "rows lost on them"),
        (verdict.pg_version, "PostgreSQL"),
    ]
    if verdict.took_s:
        facts.append((f"{verdict.took_s:.1f} s", "it took"))
    yield "<header>"
    yield f'<p class="tool">zdd-migrate verify</p><h1>{escape(name)}</h1>'
    yield f'<p class="verdict"><strong class="badge {kind}">{title}</strong> {sentence}</p>'
    yield "<dl>" + "".join(f"<div><dt>{b}</dt><dd>{a}</dd></div>" for a, b in facts) + "</dl>"
    if verdict.conditions:
        yield f"<p>Tried under: {escape(', '.join(verdict.conditions))}.</p>"
    if verdict.reused:
        yield f"<p>As tried {escape(verdict.reused)}: nothing has changed since.</p>"
    yield "</header>"


def _failures(verdict: Verdict) -> Iterator[str]:
    if not verdict.failures:
        return
    yield '<section><h2>Otherwise than expected</h2><ol class="failures">'
    for one in verdict.failures:
        yield from _failure(one)
    yield "</ol></section>"


def _failure(one: Failure) -> Iterator[str]:
    state = f"<code>{escape(one.sqlstate)}</code> " if one.sqlstate else ""
    times = f" <small>{one.count} times</small>" if one.what == "statement" else ""
    yield f"<li><p>{state}<b>{escape(one.message)}</b>{times}</p><p>{escape(where(one))}</p>"
    if one.statement:
        yield f"<pre><code>{escape(one.statement)}</code></pre>"
    yield "</li>"


def _matrix(verdict: Verdict) -> Iterator[str]:
    shown = columns(verdict)
    yield "<section><h2>Which code worked when</h2>"
    yield (
        "<p>Each phase once its steps are done (steady), while each step ran, and while and after "
        "everything was undone from there. Below each word: statements, and the slowest.</p>"
    )
    yield '<div class="wide" tabindex="0" role="region" aria-label="Which code worked when">'
    yield "<table class=matrix><thead><tr><td></td>"
    yield "".join(
        f'<th scope="colgroup" colspan="{len(whens)}">{escape(phase)}</th>'
        for phase, whens in shown
    )
    yield "</tr><tr><td></td>"
    yield "".join(
        f'<th scope="col"{_first(i)}>{when}</th>'
        for _, whens in shown
        for i, when in enumerate(whens)
    )
    yield "</tr></thead><tbody>"
    for code in codes(verdict):
        yield f'<tr><th scope="row">{escape(code)} code</th>'
        for phase, whens in shown:
            for i, when in enumerate(whens):
                yield _cell(of_cell(verdict, code, phase, when), first=_first(i))
        yield "</tr>"
    yield "</tbody></table></div></section>"


def _first(number: int) -> str:
    return " data-first" if number == 0 else ""


def _cell(trials: list[Trial], first: str) -> str:
    kind, sign, word = _WORDS[cell(trials)]
    count = sum(t.statements for t in trials)
    slowest = max((t.longest_wait_ms for t in trials), default=0.0)
    more = f"<small>{count:,} · {slowest:,.0f} ms</small>" if trials else ""
    return f'<td class="{kind}"{first}><b><i aria-hidden="true">{sign}</i> {word}</b>{more}</td>'


def _timeline(verdict: Verdict) -> Iterator[str]:
    if not verdict.timeline.spans:
        return
    yield "<section><h2>Where traffic stood</h2>"
    yield (
        "<p>Each step of the plan as it ran, then the way back, and under it the slowest statement "
        "of each code version at that moment. Thin red marks are waits for a lock. A tall red "
        "block is traffic that stood still for more than a tenth of a second: there is none "
        "where a plan is good.</p>"
    )
    yield '<div class="wide" tabindex="0" role="region" aria-label="Timeline of the walk">'
    yield draw(verdict.timeline)
    yield "</div>"
    yield from _waits(verdict)
    yield "</section>"


def _times(verdict: Verdict) -> Iterator[str]:
    """Every statement with its time, the slowest in sight and the others behind a click."""
    ordered = worst_times(verdict, _MOST_TIMES)
    if not ordered:
        return
    allowed = verdict.longest_allowed_ms
    over = sum(bool(time.over) for time in verdict.times)
    yield "<section><h2>How long each statement took</h2>"
    yield (
        f"<p>Over the whole walk, by code version, and the lock it was seen waiting for. "
        f"{over or 'None'} of {len(verdict.times)} took longer than the {allowed:,.0f} ms "
        "that are allowed.</p>"
    )
    yield from _time_table(ordered[:_FEW_TIMES], "The slowest statements")
    rest = ordered[_FEW_TIMES:]
    if rest:
        yield f"<details><summary>{len(rest)} more</summary>"
        yield from _time_table(rest, "The other statements")
        yield "</details>"
    yield "</section>"


def _time_table(times: list[StatementTime], name: str) -> Iterator[str]:
    yield f'<div class="wide" tabindex="0" role="region" aria-label="{name}"><table class=times>'
    yield (
        '<thead><tr><th scope="col">statement<th scope="col">longest<th scope="col">seen in'
        '<th scope="col">runs<th scope="col">waited for</tr></thead><tbody>'
    )
    for time in times:
        bad = " class=bad" if time.over else ""
        locks = "<br>".join(
            f"{lock.longest_ms:,.0f} ms: {escape(waited_for(lock))}" for lock in time.locks[:3]
        )
        yield (
            f'<tr><th scope="row"><small>{escape(time.code)} code</small>'
            f"<code>{escape(time.statement)}</code></th>"
            f"<td{bad}><b>{time.longest_ms:,.0f} ms</b><td>{escape(time.step or time.phase)}"
            f"<td>{runs(time)}<td>{locks}</tr>"
        )
    yield "</tbody></table></div>"


def _waits(verdict: Verdict) -> Iterator[str]:
    ordered = sorted(verdict.timeline.waits, key=lambda w: w.start_ms - w.end_ms)
    if not ordered:
        return
    yield f"<details><summary>{len(ordered)} waits for a lock were seen; the longest</summary>"
    yield '<div class="wide" tabindex="0" role="region" aria-label="Waits for locks"><table>'
    yield "<thead><tr><th>who waited<th>for<th>behind<th>ms</tr></thead><tbody>"
    for wait in ordered[:15]:
        who = "the plan's step" if wait.who == "plan" else f"{wait.who} code"
        statement = f"<br><code>{escape(wait.statement)}</code>" if wait.statement else ""
        behind = wait.behind.replace("plan", wait.step) if wait.step else wait.behind
        yield (
            f"<tr><td>{escape(who)}{statement}<td>{escape(wait.mode)} on {escape(wait.relation)}"
            f"<td>{escape(behind)}<td class=number>{wait.end_ms - wait.start_ms:,.0f}</tr>"
        )
    yield "</tbody></table></div></details>"


def _laws(verdict: Verdict) -> Iterator[str]:
    if not verdict.laws:
        return
    names = list(dict.fromkeys(law.name for law in verdict.laws))
    phases = list(dict.fromkeys(law.phase for law in verdict.laws))
    yield "<section><h2>What must always hold</h2>"
    yield '<div class="wide" tabindex="0" role="region" aria-label="Laws"><table class=matrix>'
    yield "<thead><tr><td></td>"
    yield "".join(f'<th scope="col" data-first>after {escape(p)}</th>' for p in phases)
    yield "</tr></thead><tbody>"
    for name in names:
        yield f'<tr><th scope="row">{escape(name)}</th>'
        for phase in phases:
            found = [law for law in verdict.laws if (law.name, law.phase) == (name, phase)]
            broken = [law for law in found if not law.holds]
            if broken:
                count = sum(law.violations for law in broken)
                yield f'<td class=bad data-first><b><i aria-hidden="true">✗</i> {count:,} broken</b></td>'
            elif found:
                yield '<td class=ok data-first><b><i aria-hidden="true">✓</i> holds</b></td>'
            else:
                yield '<td class=none data-first><b aria-label="not asked">·</b></td>'
        yield "</tr>"
    yield "</tbody></table></div></section>"


def _rollbacks(verdict: Verdict) -> Iterator[str]:
    if not verdict.rollbacks:
        return
    yield "<section><h2>The ways back</h2><ul class=ways>"
    for one in verdict.rollbacks:
        good = one.schema_restored and not one.rows_lost
        sign, kind = ("✓", "ok") if good else ("✗", "bad")
        restored = "schema restored" if one.schema_restored else "schema not restored"
        yield (
            f'<li class={kind}><b><i aria-hidden="true">{sign}</i> from {escape(one.start)} to '
            f"{escape(one.to)}</b> <span>{restored}, {one.rows_lost or 'no'} rows lost</span>"
        )
        if not good and one.detail:
            yield f"<p>{escape(one.detail)}</p>"
        yield "</li>"
    yield "</ul></section>"


def _sql(plan: Plan, verdict: Verdict) -> Iterator[str]:
    if not any(plan.steps.values()):
        return
    blamed = {f.step for f in verdict.failures}
    yield "<section><h2>The plan</h2>"
    for phase in Phase:
        steps = plan.steps.get(phase, ())
        if not steps:
            continue
        yield f"<h3>{phase.number}. {phase.value}</h3>"
        for step in steps:
            mark = ' class="bad"' if step.id in blamed else ""
            opened = " open" if step.id in blamed else ""
            yield f"<details{mark}{opened}><summary><code>{escape(step.id)}</code> "
            yield f"{escape(step.why)}</summary>{_code(_text(step))}"
            if step.undo is None:
                yield "<p><b>No way back after this.</b></p>"
            elif step.undo:
                yield f"<p>undone by</p>{_code(_joined(step.undo))}"
            yield "</details>"
    yield "</section>"


def _text(step: Step) -> str:
    match step:
        case Sql() | Validate():
            return _joined(step.statements)
        case Backfill():
            sets = ", ".join(f"{column} = {to}" for column, to in step.assignments)
            return (
                f"-- in batches of {step.batch}\nUPDATE {step.table} SET {sets}\nWHERE {step.where}"
            )
        case Gate():
            return f"-- must return no row\n{step.query}"
        case Release():
            return f"-- release the {step.code} code"


def _joined(statements: tuple[str, ...]) -> str:
    return "\n".join(f"{statement};" for statement in statements)


def _code(text: str) -> str:
    return f"<pre><code>{escape(text)}</code></pre>"


def _notes(verdict: Verdict) -> Iterator[str]:
    if not verdict.notes:
        return
    yield "<section><h2>Notes</h2><ul>"
    for note in dict.fromkeys(verdict.notes):
        yield f"<li>{escape(note)}</li>"
    yield "</ul></section>"


_STYLE = """
:root{--ground:#fbfbfa;--card:#fff;--ink:#1d2023;--soft:#5c6470;--line:#e2e4e8;--ok:#12703d;
--ok-ground:#e7f5ec;--bad:#b3261e;--bad-ground:#fdeceb;--unclear:#7a5600;--unclear-ground:#fdf3d9;
--must:#44546a;--must-ground:#eef1f6;--old:#2563c9;--new:#0b8577;--wait:#d6362c;--code:#f3f4f6;
--expand:#6d8fd6;--migrate:#8a78cf;--switch:#4fa39a;--contract:#d08a4a;--steady:#b9c0ca}
@media (prefers-color-scheme:dark){:root{--ground:#14171a;--card:#1c2024;--ink:#e8eaed;
--soft:#a3acb8;--line:#31373e;--ok:#7ad79f;--ok-ground:#16301f;--bad:#ff9a92;--bad-ground:#3c1a18;
--unclear:#f0c766;--unclear-ground:#362a0d;--must:#b4c1d3;--must-ground:#262d37;--old:#7fb0ff;
--new:#5fd3c3;--wait:#ff6b60;--code:#24292f;--expand:#4d6fb8;--migrate:#6b59b3;--switch:#35807a;
--contract:#a96a30;--steady:#4a525d}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;-webkit-text-size-adjust:100%}
header,main{max-width:80rem;margin:0 auto;padding:1.5rem clamp(1rem,4vw,2.5rem)}
header{padding-top:2.5rem;padding-bottom:.5rem}main{padding-top:0}
h1{font-size:clamp(1.6rem,5vw,2.3rem);line-height:1.15;margin:0;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:0 0 .75rem}h3{font-size:1rem;margin:1.25rem 0 .5rem}
.tool{margin:0 0 .25rem;color:var(--soft);font-size:.9rem}
.verdict{display:flex;flex-wrap:wrap;gap:.6rem;align-items:center;margin:1rem 0 1.25rem}
.badge{padding:.2rem .8rem;border-radius:99px;font-size:1.05rem}
.badge.pass{background:var(--ok-ground);color:var(--ok)}
.badge.fail{background:var(--bad-ground);color:var(--bad)}
.badge.unclear{background:var(--unclear-ground);color:var(--unclear)}
dl{display:flex;flex-wrap:wrap;gap:.75rem 2.25rem;margin:0}
dl div{display:flex;flex-direction:column-reverse}dt{color:var(--soft);font-size:.85rem}
dd{margin:0;font-size:1.35rem;font-weight:600;font-variant-numeric:tabular-nums}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;
padding:1.25rem clamp(1rem,3vw,1.5rem);margin:1.25rem 0}
section>p{color:var(--soft);margin:-.25rem 0 1rem;max-width:46rem}
.wide{overflow-x:auto;border-radius:8px}.wide:focus-visible{outline:2px solid var(--old)}
table{border-collapse:separate;border-spacing:2px;font-size:.92rem;min-width:100%}
th{text-align:left;font-weight:600;padding:.4rem .6rem;vertical-align:bottom}
thead th{color:var(--soft);font-weight:500;font-size:.85rem;white-space:nowrap}
thead tr:first-child th[colspan]{color:var(--ink);font-weight:600;font-size:.95rem}
tbody th{position:sticky;left:0;background:var(--card);z-index:1;padding-left:0;
vertical-align:middle;min-width:6.5rem;max-width:24rem;overflow-wrap:anywhere}
td{padding:.4rem .5rem;vertical-align:middle}td.number{text-align:right}
.times tbody th{position:static;min-width:16rem;max-width:34rem;font-weight:400}
.times small{display:block;color:var(--soft)}.times td{white-space:nowrap}
.times td:last-child{white-space:normal;min-width:14rem}
.times code,td code{background:none;padding:0;overflow-wrap:anywhere}
[data-first]{border-left:1px solid var(--line)}
.matrix td{white-space:nowrap;border-radius:6px}.matrix b{font-weight:600}
.matrix i,.ways i{font-style:normal}.matrix small{display:block;color:var(--soft);font-size:.78rem}
td.ok{background:var(--ok-ground)}td.ok b,li.ok b{color:var(--ok)}
td.bad{background:var(--bad-ground)}td.bad b,li.bad b{color:var(--bad)}
td.unclear{background:var(--unclear-ground)}td.unclear b{color:var(--unclear)}
td.must{background:var(--must-ground)}td.must b{color:var(--must)}
td.none b{color:var(--soft);font-weight:400;font-size:0}td.none i{font-size:.92rem}
.ways{list-style:none;padding:0;margin:0}.ways li{padding:.3rem 0}.ways span{color:var(--soft)}
.ways p{margin:.15rem 0 0 1.2rem;color:var(--soft);overflow-wrap:anywhere}
.failures{padding-left:1.3rem;margin:0}.failures li{margin-bottom:1rem}
.failures p{margin:0;overflow-wrap:anywhere}.failures p+p{color:var(--soft)}
.failures p code{background:var(--bad-ground);color:var(--bad)}
code{font:.88em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;background:var(--code);
padding:.1em .35em;border-radius:4px}
pre{background:var(--code);border-radius:8px;padding:.75rem 1rem;overflow-x:auto;margin:.5rem 0}
pre code{padding:0;background:none}
details{border-top:1px solid var(--line);padding:.5rem 0}summary{cursor:pointer}
summary:focus-visible{outline:2px solid var(--old)}
details.bad>summary>code{background:var(--bad-ground);color:var(--bad)}
details p{margin:.5rem 0 0;color:var(--soft)}
svg{display:block;width:100%;height:auto;font:12px system-ui,sans-serif}
svg text{fill:var(--soft)}svg .name{fill:var(--ink);font-weight:600}
svg .grid{stroke:var(--line);stroke-width:1}svg .faint{stroke-dasharray:2 4}svg .on{fill:#fff}
svg .expand{fill:var(--expand)}svg .migrate{fill:var(--migrate)}svg .switch{fill:var(--switch)}
svg .contract{fill:var(--contract)}svg .steady,svg .start,svg .migration{fill:var(--steady)}
svg .back{opacity:.55}
svg .old{fill:var(--old)}svg .new{fill:var(--new)}svg .slow{fill:var(--wait)}svg .wait{fill:var(--wait)}
svg .still{fill:var(--wait);opacity:.16}
@media (max-width:40rem){body{font-size:15px}dl{gap:.6rem 1.5rem}dd{font-size:1.15rem}
table{font-size:.86rem}tbody th{min-width:8.5rem;max-width:9.5rem}}
@media print{body{background:#fff}section{break-inside:avoid}}
"""
