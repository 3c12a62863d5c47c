//! Running other programs: short ones quietly, long ones with a log and a sign
//! of life, and none of them outliving a command that was interrupted.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail};
use rustix::process::{Pid, Signal};

use crate::interrupt::{self, Interrupted};
use crate::progress::Progress;

/// How often a long step says that it is still at work.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often a running program is looked after.
const LOOK: Duration = Duration::from_millis(50);
/// How long an interrupted program may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(3);
/// How much of a log a person needs to see.
const TAIL_LINES: usize = 20;

/// Runs a short program and returns what it printed.
///
/// # Errors
/// When it cannot be started or fails: with its command line and what it said.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = shown(command);
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("could not start `{line}`"))?;
    if !out.status.success() {
        return Err(failure(&line, &out, interrupt::requested()));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Runs a short program, gives it `input`, and forgets what it printed.
///
/// # Errors
/// As [`output`].
pub(crate) fn feed(command: &mut Command, input: &str) -> Result<()> {
    let line = shown(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start `{line}`"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early closes the pipe; why it did is in its status.
        let _ = stdin.write_all(input.as_bytes());
    }
    let out = child
        .wait_with_output()
        .with_context(|| format!("waiting for `{line}`"))?;
    if !out.status.success() {
        return Err(failure(&line, &out, interrupt::requested()));
    }
    Ok(())
}

/// Why a short program failed. Ctrl-C in a terminal reaches it as well.
fn failure(line: &str, out: &std::process::Output, interrupted: bool) -> Error {
    let stderr = String::from_utf8_lossy(&out.stderr);
    let text = format!("`{line}` failed ({}): {}", out.status, stderr.trim());
    if interrupted {
        Error::from(Interrupted).context(text)
    } else {
        Error::msg(text)
    }
}

/// A long-running program whose output goes to a log.
pub(crate) struct Logged<'a> {
    /// What it does, as the end of "still …".
    pub(crate) doing: &'a str,
    /// Where both of its outputs go; an older log is replaced.
    pub(crate) log: PathBuf,
    /// What becomes of it when this command ends early.
    pub(crate) when_stopped: WhenStopped,
}

/// What is printed while a program runs. Its output goes to the log in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// A line of progress every 15 seconds.
    Logged,
    /// The program's output.
    Shown,
}

/// What becomes of a program when the command that runs it is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenStopped {
    /// It ends too.
    End,
    /// It is let finish, as it would leave damage.
    Finish,
}

impl Logged<'_> {
    /// Runs `command` to its end, with a line of progress every 15 seconds.
    ///
    /// # Errors
    /// When it cannot be started, fails (with the end of its log), or was interrupted. An
    /// interrupted program is ended first.
    pub(crate) fn run(&self, progress: &Progress, command: &Command) -> Result<()> {
        let status = self.status(progress, command, Output::Logged)?;
        if !status.success() {
            let line = shown(command);
            bail!("`{line}` failed ({status}); {}", tail(&self.log));
        }
        Ok(())
    }

    /// Runs `command` to its end, and returns its exit status.
    ///
    /// # Errors
    /// When it cannot be started, or was interrupted. An interrupted program is ended
    /// first.
    pub(crate) fn status(
        &self,
        progress: &Progress,
        command: &Command,
        output: Output,
    ) -> Result<ExitStatus> {
        let line = shown(command);
        if let Some(folder) = self.log.parent() {
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        let log = File::create(&self.log)
            .with_context(|| format!("creating the log {}", self.log.display()))?;
        let same = log.try_clone().context("sharing a log file")?;
        // A group of its own, so that Ctrl-C reaches us alone and we end the
        // whole family in order.
        let mut child = self
            .tied(command)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(same)
            .process_group(0)
            .spawn()
            .with_context(|| format!("could not start `{line}`"))?;
        match output {
            Output::Logged => self.wait(&mut child, &mut self.heartbeat(progress)),
            Output::Shown => {
                let mut log = File::open(&self.log).context("following a log")?;
                let mut show = || {
                    // A closed standard output does not end the command.
                    let _ = io::copy(&mut log, &mut io::stdout().lock());
                };
                let status = self.wait(&mut child, &mut show)?;
                show();
                Ok(status)
            }
        }
    }

    /// The same command, but ended by the kernel when we are killed outright:
    /// else the next run would share the machine with it.
    fn tied(&self, plain: &Command) -> Command {
        let program = plain.get_program();
        let mut tied = match self.when_stopped {
            WhenStopped::End => command("setpriv"),
            WhenStopped::Finish => Command::new(program),
        };
        if self.when_stopped == WhenStopped::End {
            tied.args(["--pdeathsig", "TERM", "--"]).arg(program);
        }
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

    /// Waits for the end of `child`, and calls `poll` every 50 ms until then.
    fn wait(&self, child: &mut Child, poll: &mut dyn FnMut()) -> Result<ExitStatus> {
        loop {
            if let Some(status) = child.try_wait().context("waiting for a program")? {
                return Ok(status);
            }
            if interrupt::requested() && self.when_stopped == WhenStopped::End {
                end_group(child);
                return Err(Interrupted).with_context(|| format!("stopped {}", self.doing));
            }
            poll();
            thread::sleep(LOOK);
        }
    }

    fn heartbeat(&self, progress: &Progress) -> impl FnMut() {
        let started = Instant::now();
        let mut said = started;
        move || {
            if said.elapsed() < HEARTBEAT {
                return;
            }
            said = Instant::now();
            let (lines, last) = last_line(&self.log);
            let seconds = started.elapsed().as_secs();
            progress.say(format!(
                "  still {} ({seconds} s, {lines} lines of log, last: {last})",
                self.doing
            ));
        }
    }
}

fn end_group(child: &mut Child) {
    let Ok(group) = i32::try_from(child.id()) else {
        return;
    };
    let Some(group) = Pid::from_raw(group) else {
        return;
    };
    let asked = Instant::now();
    let _ = rustix::process::kill_process_group(group, Signal::TERM);
    while asked.elapsed() < PATIENCE {
        if matches!(child.try_wait(), Ok(Some(_))) {
            break;
        }
        thread::sleep(LOOK);
    }
    let _ = rustix::process::kill_process_group(group, Signal::KILL);
    let _ = child.wait();
}

/// The end of a log, as the end of a sentence that says what failed.
pub(crate) fn tail(log: &Path) -> String {
    let text = end_of(log);
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return format!("its log is empty: {}", log.display());
    }
    let from = lines.len().saturating_sub(TAIL_LINES);
    let shown: Vec<String> = lines[from..]
        .iter()
        .map(|line| format!("    {line}"))
        .collect();
    format!(
        "the end of its log {}:\n{}",
        log.display(),
        shown.join("\n")
    )
}

fn last_line(log: &Path) -> (usize, String) {
    let text = fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let last = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("nothing yet");
    (text.lines().count(), last.trim().chars().take(70).collect())
}

/// The last 16 KiB, for a program may have logged for hours.
fn end_of(log: &Path) -> String {
    const ENOUGH: u64 = 16 * 1024;
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(ENOUGH)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read()
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// A program by its name, also when it is in a folder for administrators that
/// the caller's PATH lacks.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    if let Ok(path) = std::env::join_paths(search_path()) {
        command.env("PATH", path);
    }
    command
}

/// Cargo, without the variables that `cargo run` sets for the package of its program.
/// When they change, some build scripts run again, and everything that depends on them
/// is compiled again.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let prefixes = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
        if prefixes.iter().any(|prefix| text.starts_with(prefix)) {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// Where [`command`] finds a program.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    search_path()
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn search_path() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let callers: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let known = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/go/bin"];
    callers.into_iter().chain(known.map(PathBuf::from))
}

fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
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
    fn a_program_that_fails_is_named_with_what_it_said() {
        let error =
            output(Command::new("sh").args(["-c", "echo no such bucket >&2; exit 3"])).unwrap_err();

        let text = error.to_string();
        assert!(
            text.contains("sh -c") && text.contains("no such bucket") && text.contains('3'),
            "{text}"
        );
    }

    #[test]
    fn a_program_that_fails_after_an_interrupt_was_interrupted() {
        let out = Command::new("sh").args(["-c", "kill -INT $$"]).output();
        let out = out.unwrap();
        assert!(!out.status.success());
        assert!(interrupt::caused(&failure("helm", &out, true)));
        assert!(!interrupt::caused(&failure("helm", &out, false)));
    }

    #[test]
    fn a_program_for_administrators_is_found_whatever_the_path_says() {
        assert!(search_path().any(|folder| folder == Path::new("/usr/sbin")));
        assert!(find("sh").is_some());
        assert_eq!(
            output(command("sh").args(["-c", "echo there"])).unwrap(),
            "there\n"
        );
    }

    #[test]
    fn a_long_program_leaves_its_output_in_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let run = Logged {
            doing: "testing",
            log: folder.path().join("a/b.log"),
            when_stopped: WhenStopped::End,
        };

        run.run(
            &Progress::start(),
            Command::new("sh").args(["-c", "echo one; echo two >&2"]),
        )
        .unwrap();

        assert_eq!(fs::read_to_string(&run.log).unwrap(), "one\ntwo\n");
    }
}
