//! The demo's input: which files, and their bytes in chunks, over and over.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use ignore::WalkBuilder;
use lb_tokio::Bytes;
use tokio::sync::mpsc;

/// Chunks read ahead of the requests.
const READ_AHEAD: usize = 8;

/// What is to be encrypted. Names only: the bytes are read when they are sent.
#[derive(Debug, Default)]
pub(crate) struct Input {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) bytes: u64,
    /// Found but not readable, with the reason.
    pub(crate) skipped: Vec<String>,
}

impl Input {
    /// Every readable file below these paths.
    pub(crate) fn gather(paths: &[PathBuf]) -> Result<Self> {
        let mut input = Self::default();
        for path in paths {
            let kind = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
            if kind.is_dir() {
                input.walk(path)?;
            } else if kind.is_file() {
                File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
                input.bytes += kind.len();
                input.files.push(path.clone());
            } else {
                bail!(
                    "{} is neither a file nor a directory; give one of these",
                    path.display()
                );
            }
        }
        if input.files.is_empty() {
            let places: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            let place = places.join(", ");
            match input.skipped.first() {
                Some(first) => bail!("nothing to encrypt: no file below {place} can be read ({first})"),
                None => bail!(
                    "nothing to encrypt: no files below {place} (hidden ones and those that .gitignore \
                     excludes are left out); give another PATH"
                ),
            }
        }
        Ok(input)
    }

    fn walk(&mut self, root: &Path) -> Result<()> {
        // An unreadable part is left out with a note, an unreadable whole is an error.
        fs::read_dir(root).with_context(|| format!("cannot read {}", root.display()))?;
        let walk = WalkBuilder::new(root)
            .require_git(false)
            .sort_by_file_name(Ord::cmp)
            .build();
        for entry in walk {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.skipped.push(error.to_string());
                    continue;
                }
            };
            if !entry.file_type().is_some_and(|kind| kind.is_file()) {
                continue;
            }
            match File::open(entry.path()).and_then(|file| file.metadata()) {
                Ok(kind) => {
                    self.bytes += kind.len();
                    self.files.push(entry.into_path());
                }
                Err(error) => self.skipped.push(format!("{}: {error}", entry.path().display())),
            }
        }
        Ok(())
    }
}

/// A piece of the input. An empty file is one empty chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// How many times the input was gone through before.
    pub(crate) pass: u64,
    pub(crate) body: Bytes,
}

/// What the reader tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// So many chunks were the whole input in this pass.
    PassRead { pass: u64, chunks: u64 },
    /// A file could not be read (any more); it is left out from here on.
    Skipped { pass: u64, what: String },
    /// There is nothing left to read.
    NothingLeft,
}

/// Reads the input on a thread of its own, one pass after the other, no further ahead than a few chunks.
#[derive(Debug)]
pub(crate) struct Reader {
    stop: Arc<AtomicBool>,
}

impl Reader {
    pub(crate) fn start(
        files: Vec<PathBuf>,
        chunk: usize,
    ) -> Result<(Self, mpsc::Receiver<Chunk>, mpsc::UnboundedReceiver<News>)> {
        let (chunks, take) = mpsc::channel(READ_AHEAD);
        let (news, hear) = mpsc::unbounded_channel();
        let stop = Arc::new(AtomicBool::new(false));
        let reading = Reading {
            files,
            chunk,
            chunks,
            news,
            stop: Arc::clone(&stop),
        };
        std::thread::Builder::new()
            .name("reader".to_owned())
            .spawn(move || reading.run())
            .context("cannot start a thread")?;
        Ok((Self { stop }, take, hear))
    }

    /// No chunks after those already read.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Reading {
    files: Vec<PathBuf>,
    chunk: usize,
    chunks: mpsc::Sender<Chunk>,
    news: mpsc::UnboundedSender<News>,
    stop: Arc<AtomicBool>,
}

/// The reader is to end: asked to, or nobody takes chunks any more.
struct Stopped;

impl Reading {
    fn run(self) {
        let mut left_out = BTreeSet::new();
        for pass in 0.. {
            let mut sent = 0;
            for (index, path) in self.files.iter().enumerate() {
                if left_out.contains(&index) {
                    continue;
                }
                match self.send_file(path, pass, &mut sent) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        left_out.insert(index);
                        let _ = self.news.send(News::Skipped {
                            pass,
                            what: format!("{}: {error}", path.display()),
                        });
                    }
                    Err(Stopped) => return,
                }
            }
            if sent == 0 {
                let _ = self.news.send(News::NothingLeft);
                return;
            }
            let _ = self.news.send(News::PassRead { pass, chunks: sent });
        }
    }

    fn send_file(&self, path: &Path, pass: u64, sent: &mut u64) -> Result<io::Result<()>, Stopped> {
        let (file, length) = match File::open(path).and_then(|file| Ok((file.metadata()?.len(), file))) {
            Ok((length, file)) => (file, length),
            Err(error) => return Ok(Err(error)),
        };
        // A file that grows while it is read must not hold the pass up.
        let mut file = file.take(length);
        let mut first = true;
        loop {
            let body = match read_chunk(&mut file, self.chunk) {
                Ok(body) => body,
                Err(error) => return Ok(Err(error)),
            };
            if body.is_empty() && !first {
                return Ok(Ok(()));
            }
            let end = body.len() < self.chunk;
            first = false;
            if self.stop.load(Ordering::Relaxed) {
                return Err(Stopped);
            }
            let body = body.into();
            self.chunks
                .blocking_send(Chunk { pass, body })
                .map_err(|_| Stopped)?;
            *sent += 1;
            if end {
                return Ok(Ok(()));
            }
        }
    }
}

/// The next chunk, full unless the file ends.
fn read_chunk(file: &mut io::Take<File>, size: usize) -> io::Result<Vec<u8>> {
    let room = usize::try_from(file.limit()).unwrap_or(usize::MAX).min(size);
    let mut body = Vec::with_capacity(room);
    file.by_ref().take(size as u64).read_to_end(&mut body)?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temp::TempDir;

    fn take(files: Vec<PathBuf>, chunk: usize, count: usize) -> (Vec<Chunk>, Vec<News>) {
        let (reader, mut chunks, mut news) = Reader::start(files, chunk).unwrap();
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some(chunk) = chunks.blocking_recv()
        {
            taken.push(chunk);
        }
        reader.stop();
        while chunks.blocking_recv().is_some() {}
        let mut told = Vec::new();
        while let Some(one) = news.blocking_recv() {
            told.push(one);
        }
        (taken, told)
    }

    #[test]
    fn chunks_of_every_length_and_again() {
        let temp = TempDir::new("lb-files-test").unwrap();
        let mut files = Vec::new();
        for (name, length) in [("a", 0), ("b", 1), ("c", 10), ("d", 11), ("e", 20), ("f", 25)] {
            let path = temp.path().join(name);
            fs::write(&path, vec![name.as_bytes()[0]; length]).unwrap();
            files.push(path);
        }
        let (chunks, news) = take(files, 10, 22);
        let sizes: Vec<usize> = chunks.iter().map(|chunk| chunk.body.len()).collect();
        let one_pass = [0, 1, 10, 10, 1, 10, 10, 10, 10, 5];
        assert_eq!(sizes[..10], one_pass);
        assert_eq!(sizes[10..20], one_pass);
        let passes: Vec<u64> = chunks.iter().map(|chunk| chunk.pass).collect();
        assert!(passes[..10].iter().all(|pass| *pass == 0) && passes[10..20].iter().all(|pass| *pass == 1));
        assert_eq!(news[0], News::PassRead { pass: 0, chunks: 10 });
        assert!(chunks[9].body.iter().all(|byte| *byte == b'f'));
    }

    #[test]
    fn what_is_gone_is_left_out_and_told_once() {
        let temp = TempDir::new("lb-files-test").unwrap();
        let there = temp.path().join("there");
        fs::write(&there, "x").unwrap();
        let (chunks, news) = take(vec![temp.path().join("gone"), there], 10, 5);
        assert_eq!(chunks.len(), 5);
        let skipped = |one: &&News| matches!(one, News::Skipped { pass: 0, what } if what.contains("gone"));
        assert_eq!(news.iter().filter(skipped).count(), 1);

        let (chunks, news) = take(vec![temp.path().join("gone")], 10, 5);
        assert!(chunks.is_empty());
        assert_eq!(news.last(), Some(&News::NothingLeft));
    }

    #[test]
    fn gathers_what_git_would_see() {
        let temp = TempDir::new("lb-files-test").unwrap();
        let root = temp.path();
        fs::create_dir_all(root.join("sub/target")).unwrap();
        for name in ["b", "a", "sub/c", "sub/target/object", ".hidden", "notes.log"] {
            fs::write(root.join(name), "12345").unwrap();
        }
        fs::write(root.join(".gitignore"), "target/\n*.log\n").unwrap();
        std::os::unix::fs::symlink("a", root.join("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("broken")).unwrap();
        let input = Input::gather(&[root.to_owned()]).unwrap();
        let names: Vec<_> = input
            .files
            .iter()
            .map(|path| path.strip_prefix(root).unwrap())
            .collect();
        assert_eq!(names, [Path::new("a"), Path::new("b"), Path::new("sub/c")]);
        assert_eq!((input.bytes, input.skipped.len()), (15, 0));

        let input = Input::gather(&[root.join(".hidden"), root.join("link")]).unwrap();
        assert_eq!(input.files.len(), 2, "what is named is taken");
    }

    #[test]
    fn says_what_is_wrong_with_the_input() {
        let temp = TempDir::new("lb-files-test").unwrap();
        let refusal = |path: &Path| format!("{:#}", Input::gather(&[path.to_owned()]).unwrap_err());
        let error = refusal(&temp.path().join("none"));
        assert!(
            error.contains("none") && error.contains("No such file"),
            "{error}"
        );
        let error = refusal(temp.path());
        assert!(
            error.contains("no files below") && error.contains(".gitignore"),
            "{error}"
        );
        let error = refusal(Path::new("/dev/null"));
        assert!(error.contains("neither a file nor a directory"), "{error}");
    }
}
