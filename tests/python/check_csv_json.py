#!/usr/bin/env python3
"""Reads what faulttrace exported as CSV and as JSON Lines, and prints as JSON what they add up to.

Usage: check_csv_json.py CSV JSON

`csv` and `json` have the totals of each; `differences` lists where the two differ, fault by fault,
in what both have. The exit code is 0 if they do not, 1 if they do. Standard library only.
"""

import collections
import csv
import json
import sys

FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
IO = (
    "device", "device_name", "requests", "shared", "elsewhere", "completed", "bytes", "queued_ns",
    "served_ns", "held_ns", "last_queued_ns", "last_served_ns",
)
HISTORY = ("past", "watched_ns", "removed_ns", "cached_ns", "how", "distance_pages")
SUMMED = ("duration_ns", "blocked_ns", "runqueue_ns", "on_cpu_ns", "switches")
# The stacks are text in one, arrays in the other.
STACKS = ("user_stack", "kernel_stack")


def cell(value):
    """As a cell shows it, without the apostrophe that makes a formula inert."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def woken(fault):
    """The columns about who ended the longest sleep, which JSON has inside it."""
    sleep = fault["longest_sleep"] or {}
    waker = sleep.get("waker") or {}
    columns = {f"waker_{name}": waker.get(name) for name in ("pid", "tid", "thread", "syscall")}
    return {"woken_by": sleep.get("woken_by"), **columns}


def bare(text):
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA) else text


def beside(fault):
    """What devices did and what became of the page, as columns that begin with io_ and history_."""
    io, history = fault.get("io") or {}, fault.get("history") or {}
    by, filled = history.get("removed_by") or {}, history.get("filled") or {}
    columns = {f"io_{name}": io.get(name) for name in IO}
    columns |= {f"history_{name}": history.get(name) for name in HISTORY}
    columns |= {f"history_removed_by_{name}": by.get(name) for name in ("pid", "thread", "cgroup")}
    columns |= {f"history_filled_{name}": filled.get(name) for name in ("pid", "name")}
    return columns


def goroutine(fault):
    """What the thread of a Go program was at, which JSON has inside `goroutine`."""
    at = fault["goroutine"] or {}
    columns = {name: at.get(name) for name in ("p", "in_syscall", "gomaxprocs")}
    names = {"goroutine": "id", "goroutine_start": "start", "goroutine_created_by": "created_by"}
    return columns | {column: at.get(name) for column, name in names.items()}


def totals(faults):
    total = {"faults": len(faults), "majors": sum(f["major"] == "true" for f in faults)}
    for field in SUMMED:
        total[field] = sum(int(fault[field]) for fault in faults)
    for field in ("cause", "thread", "pid"):
        total[f"by_{field}"] = dict(collections.Counter(fault[field] for fault in faults))
    return total


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    csv.field_size_limit(1 << 30)
    with open(sys.argv[1], newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, strict=True)
        rows = list(reader)
    with open(sys.argv[2], encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    formulas = [
        text for row in rows for text in row.values() if text and text.startswith(FORMULA[:-1])
    ]
    ragged = [index for index, row in enumerate(rows) if None in row or None in row.values()]
    faults = [line for line in lines if line["type"] == "fault"]
    flat = [
        {name: cell(value) for name, value in columns.items()}
        for columns in ({**one, **woken(one), **beside(one), **goroutine(one)} for one in faults)
    ]
    rows = [{name: bare(text) for name, text in row.items()} for row in rows]
    differences = [] if len(rows) == len(flat) else [f"{len(rows)} rows, {len(flat)} faults"]
    for index, (row, fault) in enumerate(zip(rows, flat)):
        for name, text in row.items():
            if name in STACKS:
                same = bool(text) == (faults[index][name] is not None)
            else:
                same = text == fault[name]
            if not same:
                differences.append(f"fault {index}, {name}: {text!r}, {fault[name]!r}")
    json.dump({
        "csv": totals(rows),
        "json": totals(flat),
        "types": dict(collections.Counter(line["type"] for line in lines)),
        "last_type": lines[-1]["type"] if lines else None,
        "columns": reader.fieldnames,
        "formulas": formulas[:20],
        "ragged_rows": ragged[:20],
        "differences": differences[:20],
        "difference_count": len(differences),
    }, sys.stdout, indent=1)
    print()
    sys.exit(1 if differences or formulas or ragged else 0)


if __name__ == "__main__":
    main()
