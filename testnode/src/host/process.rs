//! Running other programs: short ones quietly, long ones with a log and progress. None of
//! them outlives an interrupted command.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use super::interrupt::{self, Interrupted};
use super::{Progress, files};

/// How often a long step prints progress.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often a running program is checked.
const POLL: Duration = Duration::from_millis(50);
/// How long an interrupted program may take to exit.
const GRACE: Duration = Duration::from_secs(3);
/// The lines of a log that an error shows.
const TAIL_LINES: usize = 20;
/// The part of a log that is read for an error: it may have grown for hours.
const TAIL_BYTES: u64 = 16 * 1024;

/// Runs a short program and returns its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let line = command_line(command);
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("could not start `{line}`"))?;
    succeeded(&line, &out, interrupt::is_requested())?;
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Runs a short program with `input` as its standard input.
pub fn feed(command: &mut Command, input: &str) -> Result<()> {
    let line = command_line(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start `{line}`"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that exits early closes the pipe; its status has the cause.
        let _ = stdin.write_all(input.as_bytes());
    }
    let out = child.wait_with_output();
    let out = out.with_context(|| format!("waiting for `{line}`"))?;
    succeeded(&line, &out, interrupt::is_requested())
}

/// Returns the failure of a program, if it failed. Ctrl-C in a terminal also reaches the
/// program, so its failure may be an interrupt.
fn succeeded(line: &str, out: &Output, is_interrupted: bool) -> Result<()> {
    if out.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&out.stderr);
    let text = format!("`{line}` failed ({}): {}", out.status, stderr.trim());
    Err(if is_interrupted {
        Error::from(Interrupted).context(text)
    } else {
        Error::msg(text)
    })
}

/// A long-running program whose output goes to a log.
#[derive(Debug)]
pub struct Logged<'a> {
    /// The work, as in "still building".
    doing: &'a str,
    /// The file of its standard output and error, which is replaced.
    log: PathBuf,
    /// Whether an interrupted command ends it.
    ends_early: bool,
}

impl<'a> Logged<'a> {
    /// A program that ends when this command is interrupted or killed.
    pub fn new(doing: &'a str, log: impl Into<PathBuf>) -> Self {
        Self {
            doing,
            log: log.into(),
            ends_early: true,
        }
    }

    /// A program that an interrupted command lets finish, because it would leave damage.
    pub(crate) fn uninterrupted(doing: &'a str, log: impl Into<PathBuf>) -> Self {
        Self {
            ends_early: false,
            ..Self::new(doing, log)
        }
    }

    /// Runs `command` to its end, with a line of progress every 15 seconds.
    pub fn run(&self, progress: &Progress, command: &Command) -> Result<()> {
        let started = Instant::now();
        let mut printed = started;
        let status = self.wait(command, || {
            if printed.elapsed() < HEARTBEAT {
                return;
            }
            printed = Instant::now();
            let (lines, last) = last_line(&self.log);
            let seconds = started.elapsed().as_secs();
            progress.print(format!(
                "  still {} ({seconds} s, {lines} lines of log, last: {last})",
                self.doing
            ));
        })?;
        if !status.success() {
            let line = command_line(command);
            bail!("`{line}` failed ({status}); {}", tail(&self.log));
        }
        Ok(())
    }

    /// Runs `command` to its end, prints its output, and returns its exit status.
    pub fn show(&self, command: &Command) -> Result<ExitStatus> {
        let mut shown = 0;
        let mut show = || {
            let mut new = Vec::new();
            let read = File::open(&self.log).and_then(|mut log| {
                log.seek(SeekFrom::Start(shown))?;
                log.read_to_end(&mut new)
            });
            // Whole lines, as another program may print at the same time.
            let end = new
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1);
            if read.is_ok() && end > 0 {
                // A closed standard output does not end the command.
                let _ = io::stdout().lock().write_all(&new[..end]);
                shown += end as u64;
            }
        };
        let status = self.wait(command, &mut show)?;
        show();
        Ok(status)
    }

    /// Runs `command` and calls `poll` every 50 ms until it exits.
    fn wait(&self, command: &Command, mut poll: impl FnMut()) -> Result<ExitStatus> {
        files::create_folder(self.log.parent().unwrap_or(Path::new(".")))?;
        let log = File::create(&self.log)
            .with_context(|| format!("creating the log {}", self.log.display()))?;
        let stderr = log.try_clone().context("sharing a log file")?;
        let mut child = self
            .tied(command)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(stderr)
            // A process group of its own: Ctrl-C reaches only this command, which then
            // ends the group.
            .process_group(0)
            .spawn()
            .with_context(|| format!("could not start `{}`", command_line(command)))?;
        loop {
            if let Some(status) = child.try_wait().context("waiting for a program")? {
                return Ok(status);
            }
            if self.ends_early && interrupt::is_requested() {
                end_group(&mut child);
                return Err(Interrupted).with_context(|| format!("stopped {}", self.doing));
            }
            poll();
            thread::sleep(POLL);
        }
    }

    /// Returns the same command, which the kernel ends if this process is killed: it would
    /// slow down the next run.
    fn tied(&self, plain: &Command) -> Command {
        let program = plain.get_program();
        let mut tied = if self.ends_early {
            let mut tied = command("setpriv");
            tied.args(["--pdeathsig", "TERM", "--"]).arg(program);
            tied
        } else {
            Command::new(program)
        };
        tied.args(plain.get_args());
        if let Some(folder) = plain.get_current_dir() {
            tied.current_dir(folder);
        }
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => tied.env(name, value),
                None => tied.env_remove(name),
            };
        }
        tied
    }
}

fn end_group(child: &mut Child) {
    let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
        return;
    };
    let started = Instant::now();
    let _ = kill_process_group(group, Signal::TERM);
    while started.elapsed() < GRACE && !matches!(child.try_wait(), Ok(Some(_))) {
        thread::sleep(POLL);
    }
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait();
}

/// Returns the last lines of a log and its path, as the end of an error message.
pub fn tail(log: &Path) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return format!("its log is empty: {}", log.display());
    }
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    format!(
        "the end of its log {}:\n    {}",
        log.display(),
        last.join("\n    ")
    )
}

fn last_line(log: &Path) -> (usize, String) {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines().rev().map(str::trim);
    let last = lines.find(|line| !line.is_empty()).unwrap_or("nothing yet");
    (text.lines().count(), last.chars().take(70).collect())
}

/// Returns a command for a program that may be in an administrator's folder which is not
/// in PATH.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    if let Ok(path) = env::join_paths(search_path()) {
        command.env("PATH", path);
    }
    command
}

/// Returns the path of a program that [`command`] would run.
pub fn find(program: &str) -> Option<PathBuf> {
    search_path()
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn search_path() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let known = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/go/bin"];
    folders.into_iter().chain(known.map(PathBuf::from))
}

fn command_line(command: &Command) -> String {
    let words: Vec<&OsStr> = [command.get_program()]
        .into_iter()
        .chain(command.get_args())
        .collect();
    words.join(OsStr::new(" ")).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_last_twenty_lines_and_the_path_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("it.log");
        let lines: Vec<String> = (1..=30).map(|n| format!("line {n}")).collect();
        fs::write(&log, lines.join("\n")).unwrap();

        let text = tail(&log);

        assert!(text.contains(&log.display().to_string()));
        assert!(text.contains("line 11\n") && text.ends_with("line 30"));
        assert!(!text.contains("line 10\n"));
    }

    #[test]
    fn a_failed_program_is_named_with_its_standard_error() {
        let script = ["-c", "echo no such bucket >&2; exit 3"];
        let error = output(Command::new("sh").args(script)).unwrap_err();

        let text = error.to_string();
        assert!(text.contains("sh -c"), "{text}");
        assert!(text.ends_with("(exit status: 3): no such bucket"), "{text}");
    }

    #[test]
    fn a_program_that_fails_after_an_interrupt_was_interrupted() {
        let out = Command::new("sh").args(["-c", "kill -INT $$"]).output();
        let out = out.unwrap();
        for is_interrupted in [true, false] {
            let error = succeeded("helm", &out, is_interrupted).unwrap_err();
            assert_eq!(interrupt::caused(&error), is_interrupted);
        }
    }

    #[test]
    fn a_program_in_an_administrators_folder_is_found() {
        assert!(search_path().any(|folder| folder == Path::new("/usr/sbin")));
        assert!(find("sh").is_some());
        let echo = output(command("sh").args(["-c", "echo there"]));
        assert_eq!(echo.unwrap(), "there\n");
    }

    #[test]
    fn a_long_program_leaves_its_output_in_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("a/b.log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2"]);

        let logged = Logged::new("testing", &log);
        logged.run(&Progress::start(), &command).unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "one\ntwo\n");
        assert!(logged.show(&command).unwrap().success());
        assert_eq!(fs::read_to_string(&log).unwrap(), "one\ntwo\n");
    }
}
