use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cache_registry_bed::until;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// What a document in Markdown tells its reader to do, in its order. Each of its code blocks is one of these; a block
/// that is none is an error, so that nothing in a document goes without being tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A block `bash`: commands, and in the block `text` after it what they print. There `…` stands for anything within
    /// a line, and for any lines where it stands alone.
    Commands {
        /// The line of the document.
        line: usize,
        /// What is run.
        script: String,
        /// What it prints, where the document shows it.
        prints: Option<String>,
        /// True for a block `bash again`: a reader repeats it until it prints that.
        again: bool,
    },
    /// A block of another language whose second word is a path: the reader puts it into that file.
    File {
        /// The line of the document.
        line: usize,
        /// In the folder that the reader is in.
        path: String,
        /// The new content.
        content: String,
    },
}

/// The steps of a document.
pub fn steps(markdown: &str) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = (1..).zip(markdown.lines());
    while let Some((line, text)) = lines.next() {
        let Some(info) = text.strip_prefix("```") else { continue };
        let mut content = String::new();
        loop {
            let (_, text) = lines.next().with_context(|| format!("the block in line {line} has no end"))?;
            if text == "```" {
                break;
            }
            content.extend([text, "\n"]);
        }
        let words: Vec<_> = info.split_whitespace().collect();
        match (words.as_slice(), steps.last_mut()) {
            (["bash"], _) => steps.push(Step::Commands { line, script: content, prints: None, again: false }),
            (["bash", "again"], _) => steps.push(Step::Commands { line, script: content, prints: None, again: true }),
            (["text"], Some(Step::Commands { prints: prints @ None, .. })) => *prints = Some(content),
            ([_, path], _) => steps.push(Step::File { line, path: (*path).to_owned(), content }),
            _ => bail!("line {line}: nobody knows what to do with a block {info:?}"),
        }
    }
    for step in &steps {
        if let Step::Commands { line, prints: None, again: true, .. } = step {
            bail!("line {line}: it is not said when to stop");
        }
    }
    Ok(steps)
}

/// True where a text is what a document shows of it.
pub fn shows(shown: &str, text: &str) -> bool {
    fn lines(shown: &[&str], text: &[&str]) -> bool {
        match shown {
            [] => text.is_empty(),
            ["…", rest @ ..] => (0..=text.len()).any(|skipped| lines(rest, &text[skipped..])),
            [first, rest @ ..] => {
                text.split_first().is_some_and(|(line, text)| within(first, line) && lines(rest, text))
            }
        }
    }
    fn within(shown: &str, line: &str) -> bool {
        let mut parts = shown.split('…');
        let Some(rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
        let parts: Vec<_> = parts.collect();
        let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
        let rest = middle.iter().try_fold(rest, |rest, part| rest.split_once(part).map(|(_, rest)| rest));
        rest.is_some_and(|rest| rest.ends_with(last))
    }
    let [shown, text] = [shown, text].map(|text| text.lines().map(str::trim_end).collect::<Vec<_>>());
    lines(&shown, &text)
}

/// A reader at a shell: one session of bash, which ends at the first command that fails.
pub struct Reader {
    shell: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    folder: PathBuf,
    blocks: usize,
}

/// How long the commands of one block may take: one of them builds a policy from nothing.
const LONGEST_BLOCK: Duration = Duration::from_mins(5);

/// How long a reader repeats a block, and how long one time of it may take. A component of many megabytes is compiled by
/// threads that everything else goes before.
const LONGEST_REPETITION: Duration = Duration::from_mins(3);

/// Printed after each block, on a line of its own.
const END: &str = "--- the end of a block";

impl Reader {
    /// Sits down in an empty folder, with variables of the environment.
    pub async fn new(folder: &Path, variables: &[(&str, String)]) -> Result<Self> {
        let desk = folder.join("desk");
        fs::create_dir_all(&desk)?;
        let mut bash = Command::new("bash");
        bash.args(["--noprofile", "--norc", "-s"]).current_dir(desk).process_group(0).kill_on_drop(true);
        bash.envs(variables.iter().map(|(name, value)| (name, value)));
        bash.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(folder.join("stderr"))?);
        let mut shell = bash.spawn().context("bash does not start")?;
        let mut input = shell.stdin.take().context("bash has no standard input")?;
        let output = shell.stdout.take().context("bash has no standard output")?;
        input.write_all(b"set -euo pipefail\n").await?;
        Ok(Self { shell, input, output: BufReader::new(output), folder: folder.to_owned(), blocks: 0 })
    }

    /// Does one step of a document.
    pub async fn follow(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::File { line, path, content } => {
                let copy = self.folder.join("content");
                fs::write(&copy, content)?;
                let script = format!("mkdir -p \"$(dirname {path})\"; cp {} {path}", copy.display());
                self.run(&script, false).await.with_context(|| format!("line {line}: {path} cannot be written"))?;
            }
            Step::Commands { line, script, prints, again: false } => {
                let printed = self.run(script, false).await.with_context(|| format!("line {line}:\n{script}"))?;
                let shown = prints.as_deref().is_none_or(|prints| shows(prints, &printed));
                ensure!(
                    shown,
                    "line {line}:\n{script}\nprints:\n{printed}\nwhere the document says:\n{}",
                    prints.as_deref().unwrap_or_default()
                );
            }
            Step::Commands { line, script, prints, again: true } => {
                let prints = prints.as_deref().unwrap_or_default();
                let mut printed = String::new();
                let done = until("what the document shows", LONGEST_REPETITION, async || {
                    printed = self.run(script, true).await?;
                    Ok(shows(prints, &printed).then_some(()))
                });
                let done = done.await;
                done.with_context(|| {
                    format!("line {line}:\n{script}\nprinted last:\n{printed}\nwhere the document says:\n{prints}")
                })?;
            }
        }
        Ok(())
    }

    /// Runs commands, and returns what they print. Those that may fail are on their own: what they change of the session
    /// is gone with them.
    async fn run(&mut self, script: &str, may_fail: bool) -> Result<String> {
        self.blocks += 1;
        let file = self.folder.join(format!("{}.sh", self.blocks));
        fs::write(&file, script)?;
        // Its standard input is not the one that the next blocks come through.
        let file = file.display();
        let call = if may_fail { format!("(. {file}) </dev/null || true") } else { format!(". {file} </dev/null") };
        let call = format!("{call}\nprintf '\\n%s\\n' '{END}'\n");
        let ran = async {
            self.input.write_all(call.as_bytes()).await?;
            let mut printed = String::new();
            loop {
                let mut line = String::new();
                if self.output.read_line(&mut line).await? == 0 {
                    let stderr = fs::read_to_string(self.folder.join("stderr"))?;
                    let last: Vec<_> = stderr.lines().rev().take(30).collect();
                    let said = last.into_iter().rev().collect::<Vec<_>>().join("\n");
                    bail!("a command failed; printed:\n{printed}\nsaid last:\n{said}");
                }
                if line.trim_end() == END {
                    // The line break before the mark is ours.
                    printed.pop();
                    return Ok(printed);
                }
                printed += &line;
            }
        };
        let ran = timeout(LONGEST_BLOCK, ran).await;
        ran.unwrap_or_else(|_| bail!("not done after {} s", LONGEST_BLOCK.as_secs()))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // With what it has started.
        let group = self.shell.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blocks_of_a_document_are_steps() {
        let markdown = "# A\n```bash\nls\n```\ntext\n```text\na\n```\n```rust src/lib.rs\nfn a() {}\n\n```\n```bash again\nx\n```\n```text\ny\n```\n";
        let commands = |line, script: &str, prints: &str, again| Step::Commands {
            line,
            script: script.to_owned(),
            prints: Some(prints.to_owned()),
            again,
        };
        let file = Step::File { line: 9, path: "src/lib.rs".to_owned(), content: "fn a() {}\n\n".to_owned() };
        let expected = [commands(2, "ls\n", "a\n", false), file, commands(13, "x\n", "y\n", true)];
        assert_eq!(steps(markdown).unwrap(), expected);
    }

    #[test]
    fn a_block_that_nobody_tries_is_an_error() {
        for markdown in ["```yaml\na: b\n```\n", "```text\na\n```\n", "```bash\nls\n", "```bash again\nls\n```\n"] {
            assert!(steps(markdown).is_err(), "{markdown}");
        }
    }

    #[test]
    fn a_text_is_compared_with_what_is_shown_of_it() {
        for (shown, text) in [
            ("a\n", "a"),
            ("a…c\n", "abbc\n"),
            ("…\nz\n", "x\ny\nz\n"),
            ("a\n…\n", "a\n"),
            ("…b…\n", "abc\n"),
            ("", ""),
        ] {
            assert!(shows(shown, text), "{shown:?} {text:?}");
        }
        for (shown, text) in
            [("a\n", "b\n"), ("a\n", "a\nb\n"), ("a…c\n", "ab\n"), ("…\nz\n", "x\n"), ("a…a\n", "a\n"), ("", "a\n")]
        {
            assert!(!shows(shown, text), "{shown:?} {text:?}");
        }
    }
}
