//! Pages of a file that are touched again and again, round by round: in between somebody else may
//! have evicted them.

use std::fs::File;
use std::path::PathBuf;

use crate::mem::Mapping;
use crate::random::Random;
use crate::truth::{Counters, Worker};
use crate::workload::protocol::{done_then_exit, ready, ready_then_go, say, wait_line};
use crate::workload::tid;
use crate::workload::touch::touch_one;

/// Touch the same pages in each of several rounds.
#[derive(Debug, clap::Args)]
pub struct RevisitArgs {
    /// The file.
    pub file: PathBuf,
    /// Its first pages that are touched.
    #[arg(long)]
    pub pages: usize,
    /// Rounds; each waits for `go`, and is told of by `done`.
    #[arg(long, default_value_t = 1)]
    pub rounds: usize,
    /// Touch so many pages in a round, chosen by chance from this seed, instead of each in its order.
    #[arg(long, requires = "seed")]
    pub touches: Option<usize>,
    /// See `touches`.
    #[arg(long)]
    pub seed: Option<u64>,
}

impl RevisitArgs {
    fn choose(&self, random: &mut Random) -> Vec<usize> {
        match self.touches {
            None => (0..self.pages).collect(),
            Some(touches) => (0..touches).map(|_| random.below(self.pages)).collect(),
        }
    }
}

/// Runs the workload.
pub fn run(args: &RevisitArgs) {
    let file = File::open(&args.file).expect("open the file");
    let mapping = Mapping::file(&file).expect("map the file");
    mapping.advise(libc::MADV_RANDOM).expect("MADV_RANDOM");
    let mut random = Random::new(args.seed.unwrap_or(0));
    ready_then_go(&ready(vec![tid()]));
    for round in 1..=args.rounds {
        let before = Counters::now();
        let pages = args.choose(&mut random);
        let mut touches = Vec::with_capacity(pages.len());
        for page in pages {
            touches.push(touch_one(&mapping, page, false));
            // Not mapped, a page goes when others want its memory, and a touch finds out.
            mapping
                .advise_pages(page, 1, libc::MADV_DONTNEED)
                .expect("MADV_DONTNEED");
        }
        // Touches have mapped their neighbours too.
        mapping
            .advise_pages(0, args.pages, libc::MADV_DONTNEED)
            .expect("MADV_DONTNEED");
        let done = before.done(vec![Worker::here(touches)]);
        if round == args.rounds {
            done_then_exit(&done);
        } else {
            say("done", &done);
            wait_line("go");
        }
    }
}
