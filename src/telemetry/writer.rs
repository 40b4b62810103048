//! The thread that writes log lines, and the buffers in front of it.
//!
//! A line is formatted into a buffer of its thread and appended to its log's pending bytes under a short lock; the
//! writer takes all pending bytes at once and writes them with one call. So a line costs its caller a copy: no
//! allocation, no system call while the writer is awake, and never a wait for a disk or a pipe. Pending bytes are
//! bounded per log; a line that does not fit is dropped and counted. The writer gathers lines for
//! [`GATHER`] between two writes, so a busy log costs some fifty writes a second and a quiet one none.

use super::{Format, LogSettings, Sink};
use parking_lot::Mutex;
use prometheus::IntCounter;
use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, Thread};
use std::time::Duration;

/// How long lines are gathered between two writes.
const GATHER: Duration = Duration::from_millis(20);

/// How long a reload waits for the writer to change over.
const REOPEN_WAIT: Duration = Duration::from_secs(1);

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be opened for appending: {cause}; make its folder writable for this user", path.display())]
pub struct OpenError {
    path: PathBuf,
    cause: io::Error,
}

/// A log's pending bytes.
#[derive(Debug)]
struct Lane {
    format: AtomicU8,
    pending: Mutex<Vec<u8>>,
    pending_bytes_max: usize,
    dropped: IntCounter,
}

const OFF: u8 = 0;
const JSON: u8 = 1;
const HUMAN: u8 = 2;

/// Where a log's bytes go.
#[derive(Debug)]
enum Output {
    Stdout,
    Stderr,
    File(File),
    Off,
}

impl Output {
    fn open(sink: &Sink) -> Result<Self, OpenError> {
        Ok(match sink {
            Sink::Stdout => Self::Stdout,
            Sink::Stderr => Self::Stderr,
            Sink::Off => Self::Off,
            // Not for others: lines name people and their addresses.
            Sink::File(path) => Self::File(
                OpenOptions::new()
                    .append(true)
                    .create(true)
                    .mode(0o640)
                    .open(path)
                    .map_err(|cause| OpenError { path: path.clone(), cause })?,
            ),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()
            }
            Self::Stderr => io::stderr().lock().write_all(bytes),
            Self::File(file) => file.write_all(bytes),
            Self::Off => Ok(()),
        }
    }
}

/// The format of a log, as a byte.
fn format_of(settings: &LogSettings) -> u8 {
    let terminal = match settings.to {
        Sink::Off => return OFF,
        Sink::Stdout => io::stdout().is_terminal(),
        Sink::Stderr => io::stderr().is_terminal(),
        Sink::File(_) => false,
    };
    let human = settings.format.map_or(terminal, |format| format == Format::Human);
    if human { HUMAN } else { JSON }
}

enum Control<const N: usize> {
    Outputs(Box<[Output; N]>, Sender<()>),
    Flush(Sender<()>),
    Stop(Sender<()>),
}

struct Shared<const N: usize> {
    lanes: [Lane; N],
    /// Set by the writer before it sleeps; whoever clears it wakes the writer.
    asleep: AtomicBool,
}

/// The front of the writer: `N` logs, told apart by their index.
pub(super) struct Writer<const N: usize> {
    shared: Arc<Shared<N>>,
    control: Sender<Control<N>>,
    thread: Thread,
}

/// One log at the start: its settings, the bound of its pending bytes, the counter of its dropped lines.
pub(super) type Start<'a> = (&'a LogSettings, usize, IntCounter);

impl<const N: usize> Writer<N> {
    /// Opens the logs and starts the thread.
    pub(super) fn start(logs: [Start<'_>; N]) -> Result<Self, OpenError> {
        let outputs = open(&logs.each_ref().map(|(settings, ..)| *settings))?;
        let lanes = logs.map(|(settings, pending_bytes_max, dropped)| Lane {
            format: AtomicU8::new(format_of(settings)),
            pending: Mutex::new(Vec::new()),
            pending_bytes_max,
            dropped,
        });
        let shared = Arc::new(Shared { lanes, asleep: AtomicBool::new(false) });
        let (control, orders) = mpsc::channel();
        let back = Back { shared: Arc::clone(&shared), outputs, failing: [false; N], spare: Vec::new() };
        let handle = thread::Builder::new()
            .name("logs".into())
            .spawn(move || back.run(&orders))
            .expect("a process that cannot start its first threads cannot serve");
        Ok(Self { shared, control, thread: handle.thread().clone() })
    }

    /// Whether lines of this log are kept.
    pub(super) fn is_on(&self, log: usize) -> bool {
        self.shared.lanes[log].format.load(Ordering::Relaxed) != OFF
    }

    /// Appends one line, which `build` formats; a log that is off builds nothing.
    pub(super) fn append(&self, log: usize, build: impl FnOnce(&mut Vec<u8>, Format)) {
        thread_local! {
            static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let lane = &self.shared.lanes[log];
        let format = match lane.format.load(Ordering::Relaxed) {
            JSON => Format::Json,
            HUMAN => Format::Human,
            _ => return,
        };
        LINE.with_borrow_mut(|line| {
            line.clear();
            build(line, format);
            let mut pending = lane.pending.lock();
            if pending.len() + line.len() > lane.pending_bytes_max {
                lane.dropped.inc();
                return;
            }
            pending.extend_from_slice(line);
        });
        if self.shared.asleep.swap(false, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }

    /// Opens the logs anew: after a rotation, or because the settings changed. If one cannot be opened, all stay.
    ///
    /// Waits for the writer to change over, at most [`REOPEN_WAIT`]: lines appended afterwards go to the new files.
    pub(super) fn reopen(&self, settings: [&LogSettings; N]) -> Result<(), OpenError> {
        let outputs = open(&settings)?;
        let (done, signal) = mpsc::channel();
        self.order(Control::Outputs(Box::new(outputs), done));
        // A writer that hangs on a pipe changes over when it comes free; nothing is lost by not waiting for that.
        let _changed_over = signal.recv_timeout(REOPEN_WAIT);
        for (lane, settings) in self.shared.lanes.iter().zip(settings) {
            lane.format.store(format_of(settings), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Waits until every line appended so far is written, at most `wait`; tells whether it was.
    pub(super) fn flush(&self, wait: Duration) -> bool {
        let (done, signal) = mpsc::channel();
        self.order(Control::Flush(done));
        signal.recv_timeout(wait).is_ok()
    }

    /// Writes what is pending and ends the thread, waiting at most `wait`; lines appended later go nowhere.
    pub(super) fn stop(&self, wait: Duration) -> bool {
        let (done, signal) = mpsc::channel();
        self.order(Control::Stop(done));
        signal.recv_timeout(wait).is_ok()
    }

    fn order(&self, control: Control<N>) {
        // Fails only after `stop`, when there is nobody left to obey.
        if self.control.send(control).is_ok() {
            self.thread.unpark();
        }
    }
}

/// A writer that is dropped without [`Writer::stop`] ends its thread all the same: nothing else holds the channel.
impl<const N: usize> Drop for Writer<N> {
    fn drop(&mut self) {
        let (done, _) = mpsc::channel();
        self.order(Control::Stop(done));
    }
}

fn open<const N: usize>(settings: &[&LogSettings; N]) -> Result<[Output; N], OpenError> {
    let mut outputs = [const { Output::Off }; N];
    for (output, settings) in outputs.iter_mut().zip(settings) {
        *output = Output::open(&settings.to)?;
    }
    Ok(outputs)
}

/// The thread's side.
struct Back<const N: usize> {
    shared: Arc<Shared<N>>,
    outputs: [Output; N],
    failing: [bool; N],
    /// Swapped with a lane's pending bytes, so that both keep their allocation.
    spare: Vec<u8>,
}

impl<const N: usize> Back<N> {
    fn run(mut self, orders: &Receiver<Control<N>>) {
        loop {
            // Orders are taken first and obeyed after the write, so that a flush covers what was appended before it.
            let order = orders.try_recv().ok();
            let wrote = self.write_pending();
            match order {
                Some(Control::Outputs(outputs, done)) => {
                    self.outputs = *outputs;
                    self.failing = [false; N];
                    done.send(()).ok();
                }
                Some(Control::Flush(done)) => {
                    done.send(()).ok();
                }
                Some(Control::Stop(done)) => {
                    done.send(()).ok();
                    return;
                }
                None if wrote => thread::park_timeout(GATHER),
                None => {
                    self.shared.asleep.store(true, Ordering::Release);
                    // A line that came between the write and this store found nobody to wake; its lock ordered it
                    // before this look. An order wakes by its own unpark, which is remembered.
                    if self.is_empty() {
                        thread::park();
                    }
                    self.shared.asleep.store(false, Ordering::Release);
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.shared.lanes.iter().all(|lane| lane.pending.lock().is_empty())
    }

    fn write_pending(&mut self) -> bool {
        let mut wrote = false;
        for (log, lane) in self.shared.lanes.iter().enumerate() {
            std::mem::swap(&mut *lane.pending.lock(), &mut self.spare);
            if self.spare.is_empty() {
                continue;
            }
            wrote = true;
            match self.outputs[log].write(&self.spare) {
                Ok(()) => self.failing[log] = false,
                Err(cause) => {
                    let lines = self.spare.split(|&byte| byte == b'\n').count() - 1;
                    lane.dropped.inc_by(lines as u64);
                    // Once per failure, and past the logs: they may be what fails. Its own failure is nobody's news.
                    if !std::mem::replace(&mut self.failing[log], true) {
                        drop(writeln!(io::stderr(), "vestibule: a log cannot be written: {cause}"));
                    }
                }
            }
            self.spare.clear();
            // A burst's allocation is not kept for ever.
            self.spare.shrink_to(64 * 1024);
        }
        wrote
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn settings(path: &Path) -> LogSettings {
        LogSettings { format: Some(Format::Json), to: Sink::File(path.to_owned()) }
    }

    fn counter() -> IntCounter {
        IntCounter::new("dropped", "lines").expect("the name is plain")
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("vestibule-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        folder
    }

    const WAIT: Duration = Duration::from_secs(10);

    #[test]
    fn lines_are_written_in_order_and_all_of_them_at_the_end() {
        let path = folder("order").join("log");
        let writer = Writer::start([(&settings(&path), 1 << 20, counter())]).expect("the file opens");
        for i in 0..10_000 {
            writer.append(0, |line, _| writeln!(line, "{i}").expect("a Vec takes it"));
        }
        assert!(writer.stop(WAIT));
        let text = std::fs::read_to_string(&path).expect("the log is there");
        assert!(text.lines().map(str::parse).eq((0..10_000).map(Ok)), "every number once, in order");
        std::fs::remove_file(path).expect("the log is ours");
    }

    #[test]
    fn a_line_that_does_not_fit_is_dropped_and_counted() {
        let dropped = counter();
        let path = folder("full").join("log");
        let writer = Writer::start([(&settings(&path), 10, dropped.clone())]).expect("the file opens");
        writer.append(0, |line, _| line.extend_from_slice(b"longer than the bound\n"));
        writer.append(0, |line, _| line.extend_from_slice(b"fits\n"));
        assert!(writer.flush(WAIT));
        assert_eq!(dropped.get(), 1);
        assert_eq!(std::fs::read_to_string(&path).expect("the log is there"), "fits\n");
    }

    #[test]
    fn a_log_that_is_off_builds_nothing() {
        let off = LogSettings { format: None, to: Sink::Off };
        let writer = Writer::start([(&off, 1024, counter())]).expect("nothing to open");
        assert!(!writer.is_on(0));
        writer.append(0, |_, _| panic!("nobody reads this line"));
    }

    #[test]
    fn a_rotated_file_is_left_alone_after_reopening() {
        let folder = folder("rotate");
        let (path, rotated) = (folder.join("log"), folder.join("log.1"));
        let settings = settings(&path);
        let writer = Writer::start([(&settings, 1024, counter())]).expect("the file opens");
        writer.append(0, |line, _| line.extend_from_slice(b"before\n"));
        assert!(writer.flush(WAIT));
        std::fs::rename(&path, &rotated).expect("same folder");
        writer.reopen([&settings]).expect("the file opens again");
        writer.append(0, |line, _| line.extend_from_slice(b"after\n"));
        assert!(writer.flush(WAIT));
        assert_eq!(std::fs::read_to_string(&rotated).expect("rotated"), "before\n");
        assert_eq!(std::fs::read_to_string(&path).expect("new"), "after\n");
        std::fs::remove_dir_all(folder).expect("the folder is ours");
    }

    #[test]
    fn a_log_that_cannot_be_opened_leaves_the_others_as_they_are() {
        let path = folder("missing").join("log");
        let good = settings(&path);
        let writer = Writer::start([(&good, 1024, counter())]).expect("the file opens");
        let error = writer.reopen([&settings(Path::new("/no/such/folder/log"))]).expect_err("no such folder");
        assert!(error.to_string().starts_with("`/no/such/folder/log` cannot be opened"), "{error}");
        writer.append(0, |line, _| line.extend_from_slice(b"still here\n"));
        assert!(writer.flush(WAIT));
        assert_eq!(std::fs::read_to_string(&path).expect("the log is there"), "still here\n");
    }

    #[test]
    fn a_line_after_a_pause_wakes_the_writer() {
        let path = folder("pause").join("log");
        let writer = Writer::start([(&settings(&path), 1024, counter())]).expect("the file opens");
        // The writer has gone to sleep once its flag says so; then only the line itself can wake it.
        until(|| writer.shared.asleep.load(Ordering::Acquire));
        writer.append(0, |line, _| line.extend_from_slice(b"awake\n"));
        until(|| std::fs::read_to_string(&path).expect("the log is there").contains("awake"));
    }

    fn until(holds: impl Fn() -> bool) {
        for _ in 0..1000 {
            if holds() {
                return;
            }
            thread::park_timeout(Duration::from_millis(10));
        }
        panic!("ten seconds were not enough");
    }

    #[test]
    fn a_full_disk_is_counted() {
        let dropped = counter();
        let writer = Writer::start([(&settings(Path::new("/dev/full")), 1024, dropped.clone())])
            .expect("Linux has a device that is always full");
        writer.append(0, |line, _| line.extend_from_slice(b"one\ntwo\n"));
        assert!(writer.flush(WAIT));
        assert_eq!(dropped.get(), 2);
    }
}
