//! The assumptions a transplant makes about a crate, checked against its published `Cargo.toml`.
//!
//! A crate that runs a build script, links a native library or is a procedural macro would silently be built differently
//! by a transplant; such a crate is refused.

use crate::{Error, Files};

/// Where lib.rs has to lie.
pub const LIB: &str = "src/lib.rs";

/// Checks name, version and layout of the crate in `files`.
///
/// # Errors
/// [`Error::Layout`] says which assumption does not hold.
pub fn check(name: &str, version: &str, files: &Files) -> Result<(), Error> {
    match problem(name, version, files) {
        None => Ok(()),
        Some(what) => Err(Error::Layout {
            name: name.into(),
            version: version.into(),
            what,
        }),
    }
}

fn problem(name: &str, version: &str, files: &Files) -> Option<String> {
    let Some(manifest) = files.get("Cargo.toml") else {
        return Some("it has no Cargo.toml".into());
    };
    let table: toml::Table = match String::from_utf8_lossy(manifest).parse() {
        Ok(table) => table,
        Err(e) => return Some(format!("its Cargo.toml cannot be read: {e}")),
    };
    let package = table.get("package").and_then(toml::Value::as_table);
    let field = |key: &str| package.and_then(|p| p.get(key));
    let text = |key: &str| field(key).and_then(toml::Value::as_str).unwrap_or("nothing");
    if text("name") != name || text("version") != version {
        return Some(format!("its Cargo.toml says {} {}", text("name"), text("version")));
    }
    if field("links").is_some() {
        return Some("it links a native library".into());
    }
    let builds = match field("build") {
        None => files.contains_key("build.rs"),
        Some(toml::Value::Boolean(builds)) => *builds,
        Some(_) => true,
    };
    if builds {
        return Some("it has a build script, which a transplant would not run".into());
    }
    let lib = table.get("lib").and_then(toml::Value::as_table);
    let lib_field = |key: &str| lib.and_then(|l| l.get(key));
    if lib_field("proc-macro").and_then(toml::Value::as_bool) == Some(true) {
        return Some("it is a procedural macro".into());
    }
    let path = lib_field("path").and_then(toml::Value::as_str).unwrap_or(LIB);
    if path != LIB || !files.contains_key(LIB) {
        return Some(format!(
            "its library is {path} and {LIB} is {}",
            if files.contains_key(LIB) { "there" } else { "absent" }
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(manifest: &str) -> Files {
        [
            ("Cargo.toml".to_owned(), manifest.as_bytes().to_vec()),
            (LIB.to_owned(), Vec::new()),
        ]
        .into()
    }

    fn refusal(files: &Files) -> String {
        check("x", "1.0.0", files).expect_err("must be refused").to_string()
    }

    const GOOD: &str = "[package]\nname = \"x\"\nversion = \"1.0.0\"\nbuild = false\n[lib]\npath = \"src/lib.rs\"\n";

    #[test]
    fn the_expected_layout_passes() {
        check("x", "1.0.0", &files(GOOD)).expect("good");
    }

    #[test]
    fn each_unexpected_layout_is_named() {
        let cases = [
            (GOOD.replace("1.0.0", "1.0.1"), "says x 1.0.1"),
            (GOOD.replace("build = false", "build = \"build.rs\""), "build script"),
            (GOOD.replace("build = false", "links = \"z\""), "native library"),
            (
                GOOD.replace("path = \"src/lib.rs\"", "proc-macro = true"),
                "procedural macro",
            ),
            (GOOD.replace("src/lib.rs", "lib/mod.rs"), "its library is lib/mod.rs"),
            ("[package".to_owned(), "cannot be read"),
        ];
        for (manifest, expected) in cases {
            let message = refusal(&files(&manifest));
            assert!(message.contains(expected), "{message} should say {expected}");
        }
    }

    #[test]
    fn an_implicit_build_script_is_found() {
        let mut files = files(&GOOD.replace("build = false\n", ""));
        check("x", "1.0.0", &files).expect("no build.rs, no build script");
        files.insert("build.rs".into(), Vec::new());
        assert!(refusal(&files).contains("build script"));
    }

    #[test]
    fn a_missing_lib_or_manifest_is_named() {
        let mut files = files(GOOD);
        files.remove(LIB);
        assert!(refusal(&files).contains("absent"));
        assert!(refusal(&Files::new()).contains("no Cargo.toml"));
    }
}
