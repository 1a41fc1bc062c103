//! The schema as a document, `docs/trace-schema.md`.

use std::fmt::Write as _;

use super::tables::META;
use super::{APPLICATION_ID, MAJOR, MINOR, QUERIES, TABLES, VIEWS, user_version};

const HEAD: &str = "\
# The saved trace

<!-- Generated from faulttrace/src/trace/schema.rs by `cargo xtask docs`; do not edit. -->

`faulttrace --output FILE.faulttrace` writes a SQLite database: one file that every language and
tool can query, that needs nothing beside itself, and that is read without privilege.

```sh
sqlite3 FILE.faulttrace 'SELECT * FROM file_totals'
```

While it is being written, it is locked for a moment now and then; `sqlite3 -cmd '.timeout 10000'` waits.

## Rules

- **Times** are in nanoseconds. Columns named `…_ns` in `meta` and in views are Unix time or
  durations; columns named `…_rel_ns` count from `meta.base_ns`, which keeps rows small.
- **Order.** All records together are numbered in the order in which they were reported: the `id` of
  `faults`, `stuck`, `processes`, `process_ends`, `losses`, `accounts`, `transport`, `samples`, `cache_fills`,
  `read_aheads` and `go_processes`. A fault is reported when it is over.
- **NULL** is what is not known or does not apply; never 0 or an empty string.
- **Text** is what the target chose: thread names, paths and symbols are stored as they are, control
  characters included. Values that are not UTF-8 are BLOBs. Escape them before you show them;
  faulttrace's own commands do.
- **Numbers over 2^63** (addresses of the kernel, hashes) are stored as the negative number with the
  same 64 bits; `printf('%#x', n)` shows them.
- **Enumerations** have the names of [docs/json.md](json.md).
- **While it is being written** it can be read; a reader that takes long holds up the writer, which
  then counts what it could not save (`trace_overrun` in `losses`).
- **If faulttrace was killed**, at most the last second is missing, and `meta.state` is `recording`.
  If there is a `FILE.faulttrace-journal` that is not empty, it belongs to the trace: keep it beside
  the file until that has been opened once by somebody who may write it.
";

const VERSIONS: &str = "\
A file of a newer major version is refused by an older faulttrace. A newer minor version adds tables,
columns, views or causes, and is read without them: a cause that is not known as `unknown`. Older files are
read.

| version | change |
| --- | --- |
| 1.0 | the first |
| 1.1 | table `samples`; `sites.begin_approximate`, and the same in `fault_details` |
| 1.2 | tables `histories`, `cache_fills`, `cache_fill_by`, `devices`, `fault_io`; `faults.waker_syscall`, and the same in `fault_details` |
| 1.3 | `histories.remover_cgroup` |
| 1.4 | tables `go_processes`, `goroutines`, `goroutine_labels`, `fault_goroutines`; `sites.given_up`; view `goroutine_totals`; `goroutine`, `goroutine_start` and `p` in `fault_details` |
| 1.5 | table `read_aheads` |
| 1.6 | cause `huge_page` |
| 1.7 | `fault_io.held_ns` |
";

/// The document.
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    let version = user_version(MAJOR, MINOR);
    let identity = format!(
        "\n## Versions\n\n`application_id` is {APPLICATION_ID} ({APPLICATION_ID:#x}), `user_version` is \
         {version}: major {MAJOR}, minor {MINOR}.\n"
    );
    text += &identity;
    text += VERSIONS;
    text += "\n## Tables\n";
    for table in TABLES {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n### `{}`\n\n{}\n\n", table.name, table.meaning);
        text += "| Column | Type | Meaning |\n| --- | --- | --- |\n";
        for column in table.columns {
            let _ = writeln!(
                text,
                "| `{}` | {} | {} |",
                column.name, column.kind, column.meaning
            );
        }
    }
    text += "\n### Keys of `meta`\n\n| Key | Value |\n| --- | --- |\n";
    for (key, meaning) in META {
        let _ = writeln!(text, "| `{key}` | {meaning} |");
    }
    text += "\n## Views\n";
    for view in VIEWS {
        let _ = write!(
            text,
            "\n### `{}`\n\n{}\n\n```sql\n{}\n```\n",
            view.name, view.meaning, view.select
        );
    }
    text += "\n## Questions\n";
    for query in QUERIES {
        let _ = write!(text, "\n{}\n\n```sql\n{}\n```\n", query.question, query.sql);
    }
    text
}
