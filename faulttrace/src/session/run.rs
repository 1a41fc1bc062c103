//! Sets everything up, runs until it ends, reports.

use std::collections::HashSet;
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aya_log::EbpfLogger;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use tokio::sync::mpsc::{Receiver, channel};

use super::accounting::Accounts;
use super::attached;
use super::failure::Failure;
use super::output::Output;
use super::recorder::Recorder;
use super::screen::Screen;
use super::settings::{settings, stuck_after};
use super::signals::{self, Arrived, Signals};
use super::start_record;
use super::stuck::StuckThreads;
use super::targets::{Chosen, still_there};
use super::tracer::bounds::Bounds;
use super::tracer::go::Go;
use super::tracer::known::Known;
use super::tracer::samples::Samples;
use super::tracer::{self, Tracer};
use crate::cli::{Plan, Targets};
use crate::ingest::{Clock, Enricher};
use crate::memory;
use crate::model::{Record, Start};
use crate::preflight;
use crate::privileges;
use crate::probe::Probe;
use crate::process::kernel::KernelSymbols;
use crate::process::launch::{self, Launched};
use crate::process::patient_reader::PatientReader;
use crate::process::{LabelOptions, Labels, namespaces};
use crate::trace::{Error, Saved};

/// How many batches may wait between the tracer and the session.
const BATCHES: usize = 16;
/// How often views may say what they held back.
const TICK: Duration = Duration::from_millis(50);

/// What a session came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Exit code of the launched command.
    pub command: Option<u8>,
    /// Something was lost.
    pub losses: bool,
    /// What of it was saved.
    pub saving: Saving,
}

/// What became of the trace that was to be saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saving {
    /// None was wanted.
    NotWanted,
    /// All is in the file.
    Done(Saved),
    /// It could not be written to its end, as has been said.
    Failed,
}

/// Runs one session from start to end.
pub fn run(plan: &Plan) -> Result<Ended, Failure> {
    signals::block().map_err(|error| Failure::Failed(error.into()))?;
    preflight::require(plan).map_err(Failure::NotPossible)?;
    let mut reader = PatientReader::default();
    let mut chosen = Chosen::from_targets(&plan.targets, &mut reader)?;
    for notice in &chosen.notices {
        log::warn!("{notice}");
    }
    if namespaces::own_if_not_initial().is_some() {
        log::warn!(
            "this is not the host's pid namespace: ids are those of this one, and processes in namespaces below it are not seen"
        );
    }
    let launched = match &plan.targets {
        Targets::Command(command) => Some(launch_stopped(command, &mut chosen)?),
        _ => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let session = Session::start(plan, &mut chosen, launched, reader)?;
    runtime.block_on(session.run(plan))
}

fn launch_stopped(command: &[OsString], chosen: &mut Chosen) -> Result<Launched, Failure> {
    let launched = launch::stopped(command)?;
    chosen.add_launched(launched.pid());
    Ok(launched)
}

/// A session that traces.
struct Session {
    records: Receiver<Vec<Record>>,
    tracer: Option<JoinHandle<Result<(), tracer::Error>>>,
    stop: Arc<AtomicBool>,
    start: Arc<Start>,
    command: Option<Launched>,
    recorder: Option<Recorder>,
    /// Saving failed, and that was said.
    saving_failed: bool,
}

impl Session {
    /// Loads, attaches, looks for threads that are stuck already, lets the command go.
    fn start(
        plan: &Plan,
        chosen: &mut Chosen,
        mut launched: Option<Launched>,
        mut reader: PatientReader,
    ) -> Result<Self, Failure> {
        raise_file_limit();
        // First, so that nothing is attached if it cannot be saved.
        let mut recorder = plan.save.as_ref().map(Recorder::start).transpose()?;
        let clock = Clock::new().map_err(|error| Failure::Failed(error.into()))?;
        let (symbols, kernel) = tracer::read_kernel();
        let symbols = symbols.map_err(|error| Failure::target(&error))?;
        let mut probe = Probe::load(settings(plan, chosen), kernel?, &symbols)?;
        let logger = (plan.verbose > 0)
            .then(|| EbpfLogger::init(probe.ebpf_mut()).ok())
            .flatten();
        let mut enricher = enricher(plan, clock, symbols, &chosen.processes());
        let awaited = chosen.awaited();
        let mut accounts = Accounts::default();
        probe.attach(|| chosen.open(&mut accounts, launched.is_some(), &mut reader))?;
        let begin_ns = Clock::monotonic_ns();
        still_there(&awaited, &mut reader)?;
        let not_added = chosen.catch_up(&mut probe, &mut enricher, &mut accounts, &mut reader)?;
        let targets = start_record::targets(plan, chosen, &mut reader);
        let entered = attached::enter_stuck(&mut probe, &mut enricher, chosen)?;
        if let Some(command) = &mut launched {
            command.release()?;
        }
        let start = Arc::new(start_record::make(targets, &probe, clock.unix_ns(begin_ns)));
        if let Some(recorder) = &mut recorder {
            recorder.begin(&start);
        }
        let (sender, records) = channel(BATCHES);
        let stop = Arc::new(AtomicBool::new(false));
        let known: HashSet<u32> = start.targets.iter().map(|one| one.pid).collect();
        let tracer = Tracer {
            ring: probe.take_ring()?,
            bounds: Bounds::since(begin_ns),
            probe,
            enricher,
            stuck: StuckThreads::new(stuck_after(plan)),
            samples: Samples::start(plan.stall_threads, chosen.processes().into_iter()),
            go: Go::start(&known, entered),
            accounts,
            reader,
            logger,
            rounds: tracer::ends::rounds_of(plan.ring_bytes),
            endless: chosen.is_open(),
            awaited: awaited.into(),
            follow: plan.follow,
            known: Known::targets(&known),
            not_added,
            stop: Arc::clone(&stop),
            out: sender,
        };
        let tracer = tracer.spawn()?;
        give_up_privileges(launched.is_some());
        memory::give_back();
        Ok(Self {
            records,
            tracer: Some(tracer),
            stop,
            start,
            command: launched,
            recorder,
            saving_failed: false,
        })
    }

    /// Takes records until the tracer ends, then reports.
    async fn run(mut self, plan: &Plan) -> Result<Ended, Failure> {
        let mut signals = Signals::new()?;
        let mut output = Output::start()?;
        let mut screen = Screen::new(plan, self.start.targets.len() != 1 || plan.follow);
        screen.record(&Record::Start(Arc::clone(&self.start)), true, &mut output);
        output.push();
        let deadline = plan.duration.map(|duration| Instant::now() + duration);
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                batch = self.records.recv(), if self.takes_more(&output) => match batch {
                    Some(batch) => self.take(batch, &mut screen, &mut output),
                    None => break,
                },
                arrived = signals.next() => {
                    if self.signal(arrived?) {
                        return Err(Failure::Failed(anyhow::anyhow!("interrupted twice: the summary was not written, and what was being saved is cut off")));
                    }
                }
                _ = tick.tick() => {
                    screen.tick(&mut output);
                    if let (Some(recorder), true) = (&mut self.recorder, self.records.is_empty()) {
                        recorder.nothing();
                    }
                    self.look_at_recorder(&mut screen, &mut output);
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) || output.is_closed() {
                        self.stop.store(true, Ordering::Relaxed);
                    }
                }
            }
            output.push();
        }
        self.finish(screen, output, signals).await
    }

    /// Shows and saves records. Where standard output is not read, saving does not wait for it.
    fn take(&mut self, batch: Vec<Record>, screen: &mut Screen, output: &mut Output) {
        let show = match &self.recorder {
            Some(_) => !output.is_stalled(),
            // Nobody reads, and the end was asked for.
            None => !(self.stop.load(Ordering::Relaxed) && output.is_full()),
        };
        for record in &batch {
            screen.record(record, show, output);
            output.divide();
        }
        let Some(recorder) = &mut self.recorder else {
            return;
        };
        recorder.save(batch);
        self.look_at_recorder(screen, output);
    }

    /// Tells what could not be saved, like any other loss; if saving has failed, once why.
    fn look_at_recorder(&mut self, screen: &mut Screen, output: &mut Output) {
        let Some(recorder) = &mut self.recorder else {
            return;
        };
        if let Some(error) = recorder.take_failure() {
            self.saving_failed = true;
            log::error!("{error}; nothing more is saved, tracing goes on");
        }
        let losses = recorder.take_losses();
        if !losses.is_empty() {
            let show = !output.is_stalled();
            for loss in &losses {
                screen.record(loss, show, output);
            }
            recorder.save(losses);
        }
    }

    /// Whether more records are to be taken now.
    fn takes_more(&self, output: &Output) -> bool {
        let ends = self.stop.load(Ordering::Relaxed);
        output.has_room()
            || (ends && !output.is_full())
            || ((ends || self.recorder.is_some()) && output.is_stalled())
    }

    /// Reacts to a signal; `true` if the user does not want to wait for the end.
    fn signal(&mut self, arrived: Arrived) -> bool {
        if let Some(command) = running(self.command.as_ref()) {
            // The terminal has sent it to the command too; its end ends the session.
            pass_on(command, arrived);
            return false;
        }
        match arrived.signal {
            Signal::SIGCHLD | Signal::SIGUSR1 | Signal::SIGUSR2 => false,
            signal => {
                let again = self.stop.swap(true, Ordering::Relaxed);
                again && INSISTING.contains(&signal)
            }
        }
    }

    async fn finish(
        mut self,
        mut screen: Screen,
        mut output: Output,
        mut signals: Signals,
    ) -> Result<Ended, Failure> {
        // Its channel is closed, so it has ended or is about to.
        let traced = match self.tracer.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result.map_err(|error| Failure::Failed(error.into())),
            Some(Err(_)) => Err(Failure::Failed(anyhow::anyhow!(
                "the tracer thread panicked"
            ))),
        };
        if let (Err(failure), Some(recorder)) = (&traced, &mut self.recorder) {
            recorder.abandon(failure.to_string());
        }
        let saving = self
            .finish_saving(&mut screen, &mut output, &mut signals)
            .await?;
        screen.finish(&mut output);
        let mut command = None;
        if let Some(launched) = &mut self.command {
            // With --duration the command outlives the tracing; its exit code is still the answer.
            output.push();
            command = Some(wait_for(launched, &mut signals).await?);
        }
        tokio::select! {
            () = output.finish() => {}
            () = interrupted(&mut signals) => {}
        }
        output.join()?;
        traced?;
        Ok(Ended {
            command,
            losses: screen.has_losses(),
            saving,
        })
    }

    /// Writes what is left to the file. Before the summary, which is to tell what could not be saved.
    async fn finish_saving(
        &mut self,
        screen: &mut Screen,
        output: &mut Output,
        signals: &mut Signals,
    ) -> Result<Saving, Failure> {
        let Some(recorder) = &mut self.recorder else {
            return Ok(Saving::NotWanted);
        };
        let finished = loop {
            let arrived = tokio::select! {
                finished = recorder.finish() => break finished,
                arrived = signals.next() => arrived?,
            };
            if let Some(command) = running(self.command.as_ref()) {
                pass_on(command, arrived);
            } else if INSISTING.contains(&arrived.signal) {
                recorder.give_up();
                let why = "interrupted before all was in the file".to_owned();
                break Err(Error::Stopped(why));
            }
        };
        if let Err(error) = &finished {
            log::error!("{error}");
        }
        for loss in recorder.take_losses() {
            screen.record(&loss, true, output);
        }
        Ok(match finished {
            Ok(Some(saved)) if !self.saving_failed => Saving::Done(saved),
            _ => Saving::Failed,
        })
    }
}

/// Waits for the command's end, passing signals on.
async fn wait_for(launched: &mut Launched, signals: &mut Signals) -> Result<u8, Failure> {
    loop {
        if let Some(code) = launched
            .try_wait()
            .map_err(|error| Failure::Failed(error.into()))?
        {
            return Ok(code);
        }
        pass_on(launched, signals.next().await?);
    }
}

/// The command as long as signals are for it. Once it has ended they are for the session, which its children
/// or a slow disk may hold up.
fn running(command: Option<&Launched>) -> Option<&Launched> {
    command.filter(|command| !command.has_ended())
}

/// Passes a signal on to the command, unless it has it already.
fn pass_on(command: &Launched, arrived: Arrived) {
    if arrived.signal != Signal::SIGCHLD && !arrived.from_terminal {
        // It may have ended already.
        let _ = command.signal(arrived.signal);
    }
}

/// By which the user insists on the end. The terminal's end, of which there may be two, is not among them: what is
/// being saved is saved.
const INSISTING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT];

/// Resolves when the user insists on the end.
async fn interrupted(signals: &mut Signals) {
    while let Ok(arrived) = signals.next().await {
        if INSISTING.contains(&arrived.signal) {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Programs and libraries of the targets are kept open. After the command was launched, which is to
/// have its usual limit.
fn raise_file_limit() {
    let limits = getrlimit(Resource::RLIMIT_NOFILE);
    let raised = limits.and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        log::info!("the number of open files stays limited: {error}");
    }
}

/// Nothing is left to do for this thread, and for those that it starts from here on, that takes a
/// privilege; but signals go to a command that may be another user's.
fn give_up_privileges(has_command: bool) {
    privileges::keep(if has_command {
        privileges::SESSION_OF_COMMAND
    } else {
        privileges::SESSION
    });
}

/// What is asked of the target from outside, with the reading of what will be needed begun.
fn enricher(plan: &Plan, clock: Clock, symbols: KernelSymbols, processes: &[u32]) -> Enricher {
    let options = LabelOptions {
        symbols: plan.symbols,
    };
    let mut labels = Labels::start(options, symbols);
    for pid in processes {
        labels.watch(*pid);
    }
    Enricher::new(clock, labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::summary::samples;

    fn session_of(command: &[&str]) -> Session {
        let command: Vec<OsString> = command.iter().map(OsString::from).collect();
        let mut launched = launch::stopped(&command).expect("started");
        launched.release().expect("released");
        let Record::Start(start) = samples::start() else {
            panic!("not a start")
        };
        Session {
            records: channel(1).1,
            tracer: None,
            stop: Arc::default(),
            start,
            command: Some(launched),
            recorder: None,
            saving_failed: false,
        }
    }

    /// Whether the session is to end then, and whether at once.
    fn react(session: &mut Session, signal: Signal, from_terminal: bool) -> (bool, bool) {
        let at_once = session.signal(Arrived {
            signal,
            from_terminal,
        });
        (session.stop.load(Ordering::Relaxed), at_once)
    }

    #[test]
    fn signals_are_for_the_command_until_it_has_ended_and_then_for_the_session() {
        let mut session = session_of(&["sleep", "1000"]);
        assert_eq!(react(&mut session, Signal::SIGINT, true), (false, false));
        assert_eq!(react(&mut session, Signal::SIGTERM, false), (false, false));
        let command = session.command.as_ref().expect("launched");
        let deadline = Instant::now() + Duration::from_secs(20);
        while running(Some(command)).is_some() {
            assert!(Instant::now() < deadline, "the command does not end");
            std::thread::yield_now();
        }
        assert_eq!(react(&mut session, Signal::SIGCHLD, false), (false, false));
        assert_eq!(react(&mut session, Signal::SIGUSR1, false), (false, false));
        assert_eq!(react(&mut session, Signal::SIGINT, true), (true, false));
        assert_eq!(react(&mut session, Signal::SIGHUP, true), (true, false));
        assert_eq!(react(&mut session, Signal::SIGTERM, false), (true, true));
    }
}
