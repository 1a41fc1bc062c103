//! Questions worth asking of a trace, in SQL. A test runs each of them.

/// A question and its answer.
#[derive(Debug, Clone, Copy)]
pub struct Query {
    /// The question.
    pub question: &'static str,
    /// The query that answers it.
    pub sql: &'static str,
}

/// All of them.
pub const QUERIES: &[Query] = &[
    Query {
        question: "Which files cost most time, and how much of it?",
        sql: "SELECT path, faults, round(blocked_ns / 1e6, 1) AS blocked_ms,
       round(100.0 * blocked_ns / sum(blocked_ns) OVER (), 1) AS percent
FROM file_totals LIMIT 10;",
    },
    Query {
        question: "Which code waited longest in all?",
        sql: "SELECT round(blocked_ns / 1e6, 1) AS blocked_ms, faults, functions
FROM stack_totals JOIN stack_text USING (stack) ORDER BY blocked_ns DESC LIMIT 10;",
    },
    Query {
        question: "The twenty worst single faults, with where and when.",
        sql: "SELECT begin, thread, round(duration_ns / 1e6, 3) AS ms, cause, path, offset
FROM fault_details ORDER BY duration_ns DESC LIMIT 20;",
    },
    Query {
        question: "Blocked time per second and thread: when was it bad, and for whom?",
        sql: "SELECT datetime(end_ns / 1000000000, 'unixepoch') AS second, thread, count(*) AS faults,
       round(sum(blocked_ns) / 1e6, 1) AS blocked_ms
FROM fault_details GROUP BY second, pid, tid ORDER BY second, blocked_ms DESC;",
    },
    Query {
        question: "How were the durations distributed, by cause? (powers of ten: 1e6 ns is 1 ms)",
        sql: "SELECT s.cause, printf('1e%d ns', length(f.duration_ns) - 1) AS at_least, count(*) AS faults
FROM faults f JOIN sites s ON s.id = f.site GROUP BY s.cause, at_least ORDER BY s.cause, at_least;",
    },
    Query {
        question: "Which parts of a file are hot? (pieces of 1 MiB)",
        sql: "SELECT path, offset / 1048576 AS mib, count(*) AS faults,
       round(sum(blocked_ns) / 1e6, 1) AS blocked_ms
FROM fault_details WHERE path IS NOT NULL AND offset IS NOT NULL
GROUP BY path, mib ORDER BY blocked_ms DESC LIMIT 20;",
    },
    Query {
        question: "Is a file read in order? (steps between successive faults of one thread, in pages)",
        sql: "SELECT path, step, count(*) AS times FROM (
  SELECT path, (offset - lag(offset) OVER (PARTITION BY tid, path ORDER BY id)) / 4096 AS step
  FROM fault_details WHERE path IS NOT NULL
) WHERE step IS NOT NULL GROUP BY path, step ORDER BY path, times DESC LIMIT 20;",
    },
    Query {
        question: "How many threads were in faults when each of the worst faults ended?",
        sql: "WITH worst AS (SELECT * FROM faults ORDER BY duration_ns DESC LIMIT 10)
SELECT w.id, round(w.duration_ns / 1e6, 3) AS ms, count(*) AS threads_in_faults
FROM worst w JOIN faults f ON f.end_rel_ns >= w.end_rel_ns AND f.end_rel_ns - f.duration_ns < w.end_rel_ns
GROUP BY w.id ORDER BY w.duration_ns DESC;",
    },
    Query {
        question: "Who woke the sleepers?",
        sql: "SELECT waker, waker_pid, waker_syscall, cause, count(*) AS faults, round(avg(blocked_ns) / 1e3, 1) AS avg_us
FROM fault_details WHERE slept_after_ns IS NOT NULL
GROUP BY waker, waker_pid, waker_syscall, cause ORDER BY faults DESC LIMIT 20;",
    },
    Query {
        question: "Which goroutines were stuck with a P, and for how long?",
        sql: "SELECT pid, goroutine, start, faults, round(p_held_ns / 1e6, 1) AS p_held_ms
FROM goroutine_totals WHERE p_held_ns > 0 ORDER BY p_held_ns DESC LIMIT 20;",
    },
    Query {
        question: "What was lost, and do the majors reported agree with the kernel's count?",
        sql: "SELECT class || ': ' || reason AS what, count FROM loss_totals
UNION ALL SELECT 'majors counted by the kernel', sum(maj_flt_delta) FROM accounts
UNION ALL SELECT 'majors reported', sum(major) FROM fault_details;",
    },
];
