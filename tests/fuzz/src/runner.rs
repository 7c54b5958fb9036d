//! The targets side by side, a thread each, for a time or for a number of inputs.

use std::{
    any::Any,
    fmt, fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{corpus, mutation::Maker, target::Target};

/// An input that is not done with after this long is taken for one that never is.
const STALL: Duration = Duration::from_secs(30);

/// How much to try.
#[derive(Clone, Copy, Debug)]
pub enum Budget {
    /// Each target for so long.
    Time(Duration),
    /// So many inputs in all, divided by the targets' shares.
    Inputs(u64),
}

/// What became of a target.
#[derive(Debug)]
pub struct Outcome {
    /// Which.
    pub target: &'static Target,
    /// How many inputs were tried.
    pub inputs: u64,
    /// How many of them meant something.
    pub meaningful: u64,
    /// The most memory that one took, in bytes.
    pub memory: u64,
    /// How long it took.
    pub took: Duration,
    /// What did not hold, if anything.
    pub failure: Option<Failure>,
}

impl Outcome {
    fn new(target: &'static Target) -> Self {
        Self {
            target,
            inputs: 0,
            meaningful: 0,
            memory: 0,
            took: Duration::ZERO,
            failure: None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.inputs as f64 / self.took.as_secs_f64().max(f64::EPSILON);
        let meaningful = 100 * self.meaningful / self.inputs.max(1);
        write!(
            f,
            "{:<17} {:>11} inputs {:>9.0}/s {:>4} % meaningful {:>9} bytes at most",
            self.target.name, self.inputs, rate, meaningful, self.memory
        )?;
        match &self.failure {
            Some(failure) => write!(f, "\n{failure}"),
            None => Ok(()),
        }
    }
}

/// An input for which something does not hold.
#[derive(Debug)]
pub struct Failure {
    target: &'static str,
    /// The input.
    pub input: Vec<u8>,
    /// What does not hold.
    pub what: String,
    file: io::Result<PathBuf>,
}

impl Failure {
    fn new(target: &'static Target, input: Vec<u8>, what: String) -> Self {
        let name = format!("{}-{:08x}", target.name, crc32fast::hash(&input));
        let path = std::env::temp_dir().join(name);
        let file = fs::write(&path, &input).map(|()| path);
        Self {
            target: target.name,
            input,
            what,
            file,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex: String = self
            .input
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        writeln!(f, "{} failed: {}", self.target, self.what)?;
        writeln!(f, "input: {hex}")?;
        match &self.file {
            Ok(path) => {
                let (target, path) = (self.target, path.display());
                write!(
                    f,
                    "repeat: cargo run -p holdfast-fuzz -- try {target} {path}"
                )
            }
            Err(error) => write!(f, "it could not be written to a file: {error}"),
        }
    }
}

/// Tries one input; tells whether it meant something, and how much memory it took, in bytes.
///
/// # Errors
/// What does not hold, in words.
pub fn attempt(target: &Target, input: &[u8]) -> Result<(bool, u64), String> {
    let mut result = Ok(false);
    let info = allocation_counter::measure(|| {
        result = catch_unwind(AssertUnwindSafe(|| (target.check)(input)));
    });
    let meaningful = result.map_err(|panic| words(panic.as_ref()))?;
    let (taken, limit) = (info.bytes_max, target.memory_for(input.len()));
    if taken > limit {
        return Err(format!("it took {taken} bytes, {limit} at most"));
    }
    Ok((meaningful, taken))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without words")
        .to_owned()
}

/// Runs targets side by side, and hands each outcome to `done` as it comes.
///
/// # Errors
/// When a corpus cannot be read.
pub fn run(
    targets: &[&'static Target],
    seed: u64,
    budget: Budget,
    mut done: impl FnMut(Outcome),
) -> io::Result<()> {
    let shares = targets
        .iter()
        .map(|target| target.share)
        .sum::<u64>()
        .max(1);
    let (sender, outcomes) = mpsc::channel();
    let mut running = Vec::new();
    for target in targets {
        let course = Course {
            target,
            seed,
            corpus: corpus::read(target)?,
            budget: budget.of(target.share, shares),
            number: Arc::default(),
        };
        running.push((course.clone(), u64::MAX));
        let sender = sender.clone();
        // Its end is the message; one that never comes to an end is reported instead of joined.
        thread::Builder::new()
            .name(target.name.to_owned())
            .spawn(move || sender.send(course.run()).is_ok())?;
    }
    while !running.is_empty() {
        match outcomes.recv_timeout(STALL) {
            Ok(outcome) => {
                running.retain(|(course, _)| course.target.name != outcome.target.name);
                done(outcome);
            }
            Err(RecvTimeoutError::Timeout) => running.retain_mut(|(course, last)| {
                let number = course.number.load(Ordering::Relaxed);
                let stalled = number == std::mem::replace(last, number);
                if stalled {
                    done(course.stalled(number));
                }
                !stalled
            }),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(())
}

impl Budget {
    fn of(self, share: u64, shares: u64) -> Self {
        match self {
            Self::Time(time) => Self::Time(time),
            Self::Inputs(inputs) => Self::Inputs((inputs * share).div_ceil(shares)),
        }
    }

    fn is_spent(self, inputs: u64, since: Instant) -> bool {
        match self {
            Self::Time(time) => since.elapsed() >= time,
            Self::Inputs(most) => inputs >= most,
        }
    }
}

/// One target's way through its inputs.
#[derive(Clone)]
struct Course {
    target: &'static Target,
    seed: u64,
    corpus: Vec<Vec<u8>>,
    budget: Budget,
    /// Which input is tried now.
    number: Arc<AtomicU64>,
}

impl Course {
    fn maker(&self) -> Maker<'_> {
        Maker::new(
            self.seed,
            self.target.name,
            &self.corpus,
            self.target.longest,
        )
    }

    fn run(&self) -> Outcome {
        let (maker, begun) = (self.maker(), Instant::now());
        let (mut outcome, mut input) = (Outcome::new(self.target), Vec::new());
        // What is kept is tried in any case.
        while outcome.inputs < self.corpus.len() as u64
            || !self.budget.is_spent(outcome.inputs, begun)
        {
            self.number.store(outcome.inputs, Ordering::Relaxed);
            maker.input(outcome.inputs, &mut input);
            outcome.inputs += 1;
            match attempt(self.target, &input) {
                Ok((meaningful, memory)) => {
                    outcome.meaningful += u64::from(meaningful);
                    outcome.memory = outcome.memory.max(memory);
                }
                Err(what) => {
                    outcome.failure = Some(Failure::new(self.target, input, what));
                    break;
                }
            }
        }
        outcome.took = begun.elapsed();
        outcome
    }

    fn stalled(&self, number: u64) -> Outcome {
        let mut input = Vec::new();
        self.maker().input(number, &mut input);
        let what = format!("no end after {STALL:?}");
        Outcome {
            inputs: number,
            failure: Some(Failure::new(self.target, input, what)),
            ..Outcome::new(self.target)
        }
    }
}
