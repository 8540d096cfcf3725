//! A copy of the tree in which bugs may be planted: `target/quench/canary/tree`. Only files that differ are written, so that
//! an incremental build sees what changed and nothing else. The user's tree is only ever read.
use crate::problem::Problem;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The copy.
pub struct ScratchTree {
    /// The tree that is copied.
    source: PathBuf,
    /// The copy.
    pub root: PathBuf,
}

impl ScratchTree {
    /// A copy of `source` at `root`, made by the first `reset`.
    pub fn new(source: &Path, root: &Path) -> ScratchTree {
        ScratchTree {
            source: source.to_path_buf(),
            root: root.to_path_buf(),
        }
    }

    /// Makes the copy equal to the source again: what was patched is restored, what is gone is removed.
    pub fn reset(&self) -> Result<(), Problem> {
        let wanted = self.wanted()?;
        for relative in &wanted {
            copy_if_different(&self.source.join(relative), &self.root.join(relative))?;
        }
        for relative in files_below(&self.root, Path::new(""))? {
            if !wanted.contains(&relative) {
                let path = self.root.join(&relative);
                std::fs::remove_file(&path).map_err(Problem::file("remove", &path))?;
            }
        }
        Ok(())
    }

    /// The files that git knows or would add, as they are now.
    fn wanted(&self) -> Result<BTreeSet<PathBuf>, Problem> {
        let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let listed = run_git(&self.source, &arguments, None)?;
        let names = listed.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
        // A file may be listed and deleted; it is then not in the tree as it is now.
        Ok(names.filter(|name| self.source.join(name).is_file()).collect())
    }

    /// Applies a patch to the copy.
    pub fn apply(&self, patch: &Path) -> Result<(), Problem> {
        let patch = std::fs::canonicalize(patch).map_err(Problem::file("find", patch))?;
        let patch = patch.display().to_string();
        // The copy lies inside the checkout, but must be patched as if it were alone in the world.
        run_git(
            &self.root,
            &["apply", "--whitespace=nowarn", &patch],
            self.root.parent(),
        )
        .map(drop)
    }
}

/// Runs git in `directory`; with `ceiling` it looks for no repository in or above that directory.
fn run_git(directory: &Path, arguments: &[&str], ceiling: Option<&Path>) -> Result<String, Problem> {
    let program = format!("git {}", arguments.join(" "));
    let failed = |why: String| Problem::Program {
        program: program.clone(),
        why,
    };
    let mut git = Command::new("git");
    git.args(arguments)
        .current_dir(directory)
        .env_remove("GIT_DIR")
        .env_remove("GIT_INDEX_FILE")
        .env_remove("GIT_WORK_TREE");
    if let Some(ceiling) = ceiling {
        git.env("GIT_CEILING_DIRECTORIES", ceiling);
    }
    let output = git
        .output()
        .map_err(|error| failed(format!("cannot be started: {error}")))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_string()));
    }
    String::from_utf8(output.stdout).map_err(|_| failed("a file name is not UTF-8".into()))
}

fn copy_if_different(from: &Path, to: &Path) -> Result<(), Problem> {
    let bytes = std::fs::read(from).map_err(Problem::file("read", from))?;
    if std::fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    crate::launch::write_file(to, &bytes)
}

/// Every file below `root`, relative to it; nothing if it is not there.
fn files_below(root: &Path, relative: &Path) -> Result<Vec<PathBuf>, Problem> {
    let directory = root.join(relative);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Problem::file("list", directory)(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Problem::file("list", &directory))?;
        let relative = relative.join(entry.file_name());
        match entry
            .file_type()
            .map_err(Problem::file("ask the type of", entry.path()))?
            .is_dir()
        {
            true => files.extend(files_below(root, &relative)?),
            false => files.push(relative),
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_patched_restored_and_follows_its_source() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        let write =
            |root: &Path, name: &str, text: &str| crate::launch::write_file(&root.join(name), text.as_bytes()).unwrap();
        let read = |root: &Path, name: &str| std::fs::read_to_string(root.join(name)).ok();
        write(&source, "src/a.rs", "one\ntwo\n");
        write(&source, "ignored.txt", "x");
        write(&source, ".gitignore", "ignored.txt\ntarget\n");
        run_git(&source, &["init", "--quiet"], None).unwrap();
        // As in real life, the copy lies inside the repository.
        let tree = ScratchTree::new(&source, &source.join("target/tree"));
        tree.reset().unwrap();
        assert_eq!(read(&tree.root, "src/a.rs").unwrap(), "one\ntwo\n");
        assert_eq!(read(&tree.root, "ignored.txt"), None);
        let patch = directory.path().join("bug.patch");
        std::fs::write(
            &patch,
            "# about: x\n--- a/src/a.rs\n+++ b/src/a.rs\n@@ -1,2 +1,2 @@\n one\n-two\n+bug\n",
        )
        .unwrap();
        tree.apply(&patch).unwrap();
        assert_eq!(read(&tree.root, "src/a.rs").unwrap(), "one\nbug\n");
        assert_eq!(
            read(&source, "src/a.rs").unwrap(),
            "one\ntwo\n",
            "the user's tree was touched"
        );
        assert!(tree.apply(&patch).is_err(), "it is there already");
        write(&tree.root, "src/left_over.rs", "");
        std::fs::remove_file(source.join(".gitignore")).unwrap();
        write(&source, ".git/info/exclude", "target\n");
        tree.reset().unwrap();
        assert_eq!(read(&tree.root, "src/a.rs").unwrap(), "one\ntwo\n");
        assert_eq!(read(&tree.root, "src/left_over.rs"), None);
        assert_eq!(read(&tree.root, ".gitignore"), None);
        assert_eq!(read(&tree.root, "ignored.txt").unwrap(), "x");
    }
}
