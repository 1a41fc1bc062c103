#!/usr/bin/env python3
"""Reads a Perfetto trace that faulttrace exported, and prints as JSON what is in it.

Usage: check_perfetto.py FILE

Needs the package `perfetto` (pip install perfetto protobuf), of which only the protobuf classes are
used: its trace_processor would have to be downloaded. What trace_processor does is done here: sort
the events by time, keeping the order of the file for equal times, and let each end close the slice
that is open on its track. What it does in the order of the file is done in that order: names are
looked up, counters are read.

`violations` lists what is wrong with the trace; it is empty for a good one. The exit code is 0 if it
is empty, 1 if not.
"""

import collections
import json
import sys

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

CLEARED = pb.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
NEEDS_STATE = pb.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
REALTIME = pb.BUILTIN_CLOCK_REALTIME
VALUES = (
    "bool_value", "uint_value", "int_value", "double_value", "string_value", "pointer_value",
)


class Sequence:
    """What the packets of one sequence have told so far."""

    def __init__(self):
        self.valid = False
        self.clear()

    def clear(self):
        self.categories, self.names, self.arguments, self.texts = {}, {}, {}, {}
        self.clock = None


def packets(path):
    trace = pb.Trace()
    with open(path, "rb") as file:
        trace.ParseFromString(file.read())
    return trace.packet


class Checker:
    def __init__(self):
        self.violations = []
        self.primary_clock = None
        self.tracks = {}
        self.events = []
        self.counters = collections.defaultdict(list)

    def wrong(self, text):
        self.violations.append(text)

    def read(self, path):
        sequences = collections.defaultdict(Sequence)
        for index, packet in enumerate(packets(path)):
            state = sequences[packet.trusted_packet_sequence_id]
            if packet.sequence_flags & CLEARED:
                state.clear()
                state.valid = True
            elif packet.sequence_flags & NEEDS_STATE and not state.valid:
                self.wrong(f"packet {index} needs a state that was not begun")
            if packet.HasField("trace_packet_defaults"):
                state.clock = packet.trace_packet_defaults.timestamp_clock_id
            self.intern(index, state, packet.interned_data)
            if packet.HasField("clock_snapshot"):
                self.primary_clock = packet.clock_snapshot.primary_trace_clock
            if packet.HasField("track_descriptor"):
                self.track(packet.track_descriptor)
            if packet.HasField("track_event"):
                if (packet.timestamp_clock_id or state.clock) != REALTIME:
                    self.wrong(f"packet {index} is not in Unix time")
                self.event(index, state, packet.timestamp, packet.track_event)
        if self.primary_clock != REALTIME:
            self.wrong("the clock of the trace is not that of Unix time")

    def intern(self, index, state, data):
        for known, news, field in (
            (state.categories, data.event_categories, "name"),
            (state.names, data.event_names, "name"),
            (state.arguments, data.debug_annotation_names, "name"),
            (state.texts, data.debug_annotation_string_values, "str"),
        ):
            for entry in news:
                if entry.iid in known or entry.iid == 0:
                    self.wrong(f"packet {index} interns number {entry.iid} again")
                value = getattr(entry, field)
                known[entry.iid] = value.decode() if isinstance(value, bytes) else value

    def track(self, track):
        known = {"parent": track.parent_uuid, "name": track.name}
        if track.HasField("process"):
            known |= {"kind": "process", "pid": track.process.pid}
            known["name"] = track.process.process_name
        elif track.HasField("thread"):
            known |= {"kind": "thread", "pid": track.thread.pid, "tid": track.thread.tid}
            known["name"] = track.thread.thread_name
        elif track.HasField("counter"):
            known |= {"kind": "counter"}
        else:
            known |= {"kind": "other"}
        before = self.tracks.get(track.uuid)
        identity = ("kind", "pid", "tid", "parent")
        if before and any(before.get(key) != known.get(key) for key in identity):
            self.wrong(f"track {track.uuid:#x} is two things: {before}, {known}")
        self.tracks[track.uuid] = known

    def event(self, index, state, at, event):
        track = self.tracks.get(event.track_uuid)
        if track is None:
            self.wrong(f"packet {index} is on a track that was not told before")
            return
        if event.type == pb.TrackEvent.TYPE_COUNTER:
            if track["kind"] != "counter":
                self.wrong(f"packet {index} counts on a track that is no counter")
            self.counters[event.track_uuid].append((at, event.counter_value))
            return
        look_up = lambda known, iid, what: known.get(iid) or self.wrong(
            f"packet {index} names {what} {iid}, which was not told"
        )
        arguments = {}
        for argument in event.debug_annotations:
            name = look_up(state.arguments, argument.name_iid, "argument")
            if argument.string_value_iid:
                value = state.texts.get(argument.string_value_iid)
                if value is None:
                    self.wrong(f"packet {index} names text {argument.string_value_iid}")
            else:
                value = next(getattr(argument, of) for of in VALUES if argument.HasField(of))
            if name in arguments:
                self.wrong(f"packet {index} has argument {name} twice")
            arguments[name] = value
        name = event.name
        if event.name_iid:
            name = look_up(state.names, event.name_iid, "name")
        self.events.append({
            "at": at,
            "track": event.track_uuid,
            "type": event.type,
            "name": name,
            "categories": [look_up(state.categories, i, "category") for i in event.category_iids],
            "arguments": arguments,
            "flows": list(event.flow_ids),
            "ends_flows": list(event.terminating_flow_ids),
        })

    def slices(self):
        """The slices, open ones with `end` None, and the instants, in the order of time."""
        self.events.sort(key=lambda event: event["at"])
        stacks = collections.defaultdict(list)
        done, flows = [], {}
        for event in self.events:
            stack = stacks[event["track"]]
            slice = event
            if event["type"] == pb.TrackEvent.TYPE_SLICE_BEGIN:
                slice |= {"begin": event["at"], "end": None, "depth": len(stack)}
                slice["parent"] = stack[-1] if stack else None
                stack.append(slice)
                done.append(slice)
            elif event["type"] == pb.TrackEvent.TYPE_SLICE_END:
                if not stack:
                    self.wrong(f"an end at {event['at']} without a beginning")
                    continue
                slice = stack.pop()
                slice["end"] = event["at"]
            else:
                slice |= {"begin": event["at"], "end": event["at"], "depth": len(stack)}
                done.append(slice)
            for flow in event["flows"]:
                flows.setdefault(flow, [slice, None])
            for flow in event["ends_flows"]:
                if flow not in flows or flows[flow][1]:
                    self.wrong(f"flow {flow} ends without a beginning, or twice")
                else:
                    flows[flow][1] = slice
        return done, flows

    def check_slices(self, slices):
        for slice in slices:
            parent = slice.get("parent")
            if "fault" in slice["categories"] and slice["depth"] != 0:
                self.wrong(f"the fault at {slice['begin']} is inside of something")
            if "part" in slice["categories"]:
                if parent is None or "fault" not in parent["categories"]:
                    self.wrong(f"the part at {slice['begin']} is not inside of a fault")
                elif None in (slice["end"], parent["end"]) or slice["end"] > parent["end"]:
                    self.wrong(f"the part at {slice['begin']} does not end in its fault")

    def check_counters(self):
        told = {}
        for uuid, values in self.counters.items():
            track = self.tracks[uuid]
            process = self.tracks.get(track["parent"], {})
            times = [at for at, _ in values]
            if times != sorted(times):
                self.wrong(f"counter {track['name']} of {process.get('pid')} goes back in time")
            told[f"{track['name']}[{process.get('pid')}]"] = {
                "values": len(values),
                "max": max(value for _, value in values),
                "last": values[-1][1],
            }
        return told

    def in_faults(self, slices):
        """The counter of threads in faults, from the slices; compared with the one in the file."""
        changes = collections.defaultdict(collections.Counter)
        # A fault that began before attach may be counted from the start of the trace on, and drawn
        # from where it is known: until then the two may differ.
        since = 0
        for slice in slices:
            if "fault" not in slice["categories"]:
                continue
            pid = self.tracks[slice["track"]]["pid"]
            if slice["arguments"].get("began_before_attach"):
                since = max(since, slice["begin"])
            changes[pid][slice["begin"]] += 1
            if slice["end"] is not None:
                changes[pid][slice["end"]] -= 1
        for uuid, values in self.counters.items():
            track = self.tracks[uuid]
            if track["name"] != "threads in page faults":
                continue
            pid = self.tracks[track["parent"]]["pid"]
            count, expected = 0, {}
            for at in sorted(changes[pid]):
                count += changes[pid][at]
                if changes[pid][at]:
                    expected[at] = count
            found = dict(values)
            # The 0 at the beginning is no change.
            found = {at: value for at, value in found.items() if at in expected or value}
            found = {at: value for at, value in found.items() if at > since}
            expected = {at: value for at, value in expected.items() if at > since}
            if found != expected:
                different = sorted(set(found.items()) ^ set(expected.items()))[:3]
                self.wrong(f"threads in faults of {pid} differ from the slices: {different}")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    checker = Checker()
    checker.read(sys.argv[1])
    slices, flows = checker.slices()
    checker.check_slices(slices)
    counters = checker.check_counters()
    faults = [slice for slice in slices if "fault" in slice["categories"]]
    drawn = lambda slice: (slice["end"] or slice["begin"]) - slice["begin"]
    cut = sum("begins_earlier_by_ns" in slice["arguments"] for slice in faults)
    if not cut:
        checker.in_faults(slices)
    for slice in faults:
        duration = slice["arguments"].get("duration_ns")
        moved = slice["arguments"].get("begins_earlier_by_ns", 0)
        if duration is not None and not moved and drawn(slice) != duration:
            checker.wrong(f"the fault at {slice['begin']} is not as long as it says")
    total = lambda name: sum(slice["arguments"].get(name, 0) for slice in faults)
    parts = lambda name: [s for s in slices if "part" in s["categories"] and s["name"] == name]
    alone = [flow for flow, (_, end) in flows.items() if end is None]
    if alone:
        checker.wrong(f"{len(alone)} flows have no end")
    backwards = [f for f, (a, b) in flows.items() if b and a["at"] != (
        b["begin"] if b["name"] == "run queue" else b["end"])]
    if backwards:
        checker.wrong(f"{len(backwards)} flows do not end at the moment of the wake-up")
    json.dump({
        "faults": len(faults),
        "majors": sum(slice["arguments"].get("major", False) for slice in faults),
        "open": sum(slice["end"] is None for slice in faults),
        "still_stuck": sum(slice["arguments"].get("still_stuck", False) for slice in faults),
        "cut": cut,
        "duration_ns": total("duration_ns"),
        "blocked_ns": total("blocked_ns"),
        "runqueue_ns": total("runqueue_ns"),
        "on_cpu_ns": total("on_cpu_ns"),
        "unplaced_ns": total("unplaced_ns"),
        "placed_blocked_ns": sum(map(drawn, parts("blocked"))),
        "placed_runqueue_ns": sum(map(drawn, parts("run queue"))),
        "by_name": dict(collections.Counter(slice["name"] for slice in faults)),
        "wake_ups": sum("wake" in slice["categories"] for slice in slices),
        "flows": len(flows),
        "flows_without_partner": len(alone),
        "first_ns": min((e["at"] for e in checker.events), default=None),
        "last_ns": max((e["at"] for e in checker.events), default=None),
        "processes": {
            track["pid"]: track["name"]
            for track in checker.tracks.values() if track["kind"] == "process"
        },
        "threads": sorted(
            [track["pid"], track["tid"], track["name"]]
            for track in checker.tracks.values() if track["kind"] == "thread"
        ),
        "counters": counters,
        "notes": [slice["name"] for slice in slices if "note" in slice["categories"]],
        "violations": checker.violations[:20],
        "violation_count": len(checker.violations),
    }, sys.stdout, indent=1)
    print()
    sys.exit(1 if checker.violations else 0)


if __name__ == "__main__":
    main()
