//! Rules about planted bugs: a diff that fits the tree no more finds nothing, and nobody would know before it is run.

use crate::Tree;

/// Every hunk of every diff finds the lines that it replaces.
pub fn fit(tree: &Tree) -> Vec<String> {
    let patches = tree.iter().filter(|(path, _)| path.ends_with(".patch"));
    patches.flat_map(|(path, text)| misfits(path, text, tree)).collect()
}

fn misfits(path: &str, patch: &str, tree: &Tree) -> Vec<String> {
    let mut misfits = vec![];
    let (mut file, mut old) = ("", None::<Vec<&str>>);
    // A last line that ends whatever came before it.
    for line in patch.lines().chain(["diff"]) {
        if let Some(lines) = &mut old {
            match line.split_at_checked(1) {
                Some((" " | "-", rest)) if !line.starts_with("--- a/") => {
                    lines.push(rest);
                    continue;
                }
                Some(("+", _)) => continue,
                None => {
                    lines.push("");
                    continue;
                }
                _ => {}
            }
            if !holds(tree.get(file), lines) {
                misfits.push(format!("{path}: does not apply to '{file}' any more: renew it"));
            }
            old = None;
        }
        match line.strip_prefix("--- a/") {
            Some(name) => file = name,
            None if line.starts_with("@@ ") => old = Some(vec![]),
            None => {}
        }
    }
    if file.is_empty() {
        misfits.push(format!("{path}: changes no file"));
    }
    misfits
}

/// Whether these lines stand in the text, one after the other.
fn holds(text: Option<&String>, lines: &[&str]) -> bool {
    let text: Vec<&str> = text.map(|text| text.lines().collect()).unwrap_or_default();
    !lines.is_empty() && text.windows(lines.len()).any(|window| window == lines)
}

#[test]
fn a_diff_that_fits_no_more_is_told() {
    let patch = "# about: x\n\n--- a/src/a.rs\n+++ b/src/a.rs\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n@@ -8,2 +8,1 @@\n eight\n-nine\n";
    let tree = |text: &str| {
        Tree::from([
            ("src/a.rs".to_owned(), text.to_owned()),
            ("p.patch".to_owned(), patch.to_owned()),
        ])
    };
    assert!(fit(&tree("zero\none\ntwo\nthree\nfour\neight\nnine\n")).is_empty());
    assert_eq!(fit(&tree("one\nTWO\nthree\neight\nnine\n")).len(), 1);
    assert_eq!(fit(&tree("one\ntwo\nand\nthree\neight\n")).len(), 2);
    assert_eq!(misfits("p.patch", patch, &Tree::new()).len(), 2, "the file is gone");
    assert_eq!(misfits("p.patch", "# about: nothing\n", &Tree::new()).len(), 1);
}
