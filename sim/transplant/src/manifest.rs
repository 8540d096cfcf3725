//! The comparison of a transplant's manifest with upstream's.
//!
//! A transplant compiles foreign source with its own manifest, so edition, features and dependencies must be upstream's,
//! or the code that is simulated is not the code that ships. Each transplant's tests call [`differences`]; what may differ
//! is listed there, in [`Allowed`], with its reason.

use toml::{Table, Value};

/// What may differ, each with the reason.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowed<'a> {
    /// Features of upstream that ours does not offer.
    pub features_left_out: &'a [(&'a str, &'a str)],
    /// Features of upstream that mean something else in ours.
    pub features_changed: &'a [(&'a str, &'a str)],
    /// Dependencies of upstream that ours leaves out.
    pub dependencies_left_out: &'a [(&'a str, &'a str)],
    /// Dependencies that upstream makes optional and ours always has.
    pub always_on: &'a [(&'a str, &'a str)],
}

/// Everything in which `ours` differs from `upstream` beyond what is allowed and the two differences of every transplant:
/// `tokio` is `sim-tokio`, and the real crate is the dependency `upstream` of ordinary builds, to which each feature is
/// passed on.
///
/// # Panics
/// When a manifest is no TOML.
pub fn differences(ours: &str, upstream: &str, allowed: &Allowed<'_>) -> Vec<String> {
    let ours: Table = ours.parse().expect("our manifest is TOML");
    let upstream: Table = upstream.parse().expect("upstream's manifest is TOML");
    let mut found = Vec::new();
    package(&ours, &upstream, &mut found);
    features(&ours, &upstream, allowed, &mut found);
    dependencies(&ours, &upstream, allowed, &mut found);
    let reasons = [
        allowed.features_left_out,
        allowed.features_changed,
        allowed.dependencies_left_out,
        allowed.always_on,
    ]
    .concat();
    found.extend(
        reasons
            .iter()
            .filter(|(_, why)| why.is_empty())
            .map(|(name, _)| format!("the exemption of {name} has no reason")),
    );
    found
}

fn table<'a>(manifest: &'a Table, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    manifest.get(key).and_then(Value::as_table).into_iter().flatten()
}

fn package(ours: &Table, upstream: &Table, found: &mut Vec<String>) {
    let field = |manifest: &Table, key: &str| manifest.get("package").and_then(|p| p.get(key)).cloned();
    for key in ["version", "edition"] {
        let (our, their) = (field(ours, key), field(upstream, key));
        if our != their {
            found.push(format!("package.{key} is {our:?}, upstream has {their:?}"));
        }
    }
    let name = field(upstream, "name")
        .as_ref()
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let version = field(upstream, "version")
        .as_ref()
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let ordinary = ours.get("target").and_then(|t| t.get("cfg(not(madsim))"));
    let pin = ordinary
        .and_then(|target| target.get("dependencies"))
        .and_then(|d| d.get("upstream"));
    let pinned = |key: &str| pin.and_then(|p| p.get(key)).and_then(Value::as_str);
    if pinned("package") != Some(&name) || pinned("version") != Some(&format!("={version}")) {
        found.push(format!(
            "dependency `upstream`, under cfg(not(madsim)), must be {{ package = \"{name}\", version = \"={version}\" }}"
        ));
    }
}

fn features(ours: &Table, upstream: &Table, allowed: &Allowed<'_>, found: &mut Vec<String>) {
    let left_out = |name: &str| allowed.features_left_out.iter().any(|(left_out, _)| *left_out == name);
    let own: Vec<_> = table(ours, "features").collect();
    for (name, value) in table(upstream, "features").filter(|(name, _)| !left_out(name)) {
        let Some((_, our)) = own.iter().find(|(our, _)| *our == name) else {
            found.push(format!("feature {name} is missing"));
            continue;
        };
        let passed_on = format!("upstream/{name}");
        if name != "default" && !strings(our).contains(&passed_on) {
            found.push(format!("feature {name} is not passed on: add \"{passed_on}\""));
        }
        let their: Vec<String> = strings(value)
            .into_iter()
            .filter(|item| !about_left_out(item, allowed))
            .collect();
        let our: Vec<String> = strings(our).into_iter().filter(|item| *item != passed_on).collect();
        let changed = allowed.features_changed.iter().any(|(changed, _)| changed == name);
        if changed == (our == their) {
            let but = if changed {
                ", though it is listed as changed"
            } else {
                ""
            };
            found.push(format!("feature {name} is {our:?}, upstream has {their:?}{but}"));
        }
    }
    for (name, _) in own {
        if !table(upstream, "features").any(|(their, _)| their == name) {
            found.push(format!("feature {name} is not one of upstream's"));
        } else if left_out(name) {
            found.push(format!("feature {name} is listed as left out, but is there"));
        }
    }
}

/// Whether a feature's item speaks of something that ours leaves out, or of a dependency that ours always has.
fn about_left_out(item: &str, allowed: &Allowed<'_>) -> bool {
    let names = allowed
        .features_left_out
        .iter()
        .chain(allowed.dependencies_left_out)
        .chain(allowed.always_on);
    let about = item.strip_prefix("dep:").unwrap_or(item);
    names
        .map(|(name, _)| *name)
        .any(|name| about == name || about.strip_prefix(name).is_some_and(|rest| rest.starts_with('/')))
}

/// Sorted, without repetition.
fn strings(value: &Value) -> Vec<String> {
    let mut strings: Vec<String> = value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|v| v.as_str().map(str::to_owned))
        .collect();
    strings.sort();
    strings.dedup();
    strings
}

/// A dependency, whichever way it is written.
#[derive(Debug, PartialEq, Eq)]
struct Dependency {
    package: String,
    version: String,
    features: Vec<String>,
    default_features: bool,
    optional: bool,
}

fn dependency(name: &str, value: &Value) -> Dependency {
    let field = |key: &str| value.get(key);
    let text = |key: &str| field(key).and_then(Value::as_str);
    let flag = |key: &str, default: bool| field(key).and_then(Value::as_bool).unwrap_or(default);
    Dependency {
        package: text("package").unwrap_or(name).to_owned(),
        version: value
            .as_str()
            .or_else(|| text("version"))
            .unwrap_or_default()
            .to_owned(),
        features: field("features").map(strings).unwrap_or_default(),
        default_features: flag("default-features", true),
        optional: flag("optional", false),
    }
}

fn dependencies(ours: &Table, upstream: &Table, allowed: &Allowed<'_>, found: &mut Vec<String>) {
    let is = |list: &[(&str, &str)], name: &str| list.iter().any(|(listed, _)| *listed == name);
    let own: Vec<_> = table(ours, "dependencies").collect();
    for (name, value) in table(upstream, "dependencies") {
        let Some((_, our)) = own.iter().find(|(our, _)| *our == name) else {
            if !is(allowed.dependencies_left_out, name) {
                found.push(format!("dependency {name} is missing"));
            }
            continue;
        };
        let (mut their, our) = (dependency(name, value), dependency(name, our));
        if is(allowed.always_on, name) {
            their.optional = false;
        }
        if name == "tokio" {
            if our.package != "sim-tokio" || our.features != their.features {
                found.push(format!(
                    "dependency tokio must be sim-tokio with upstream's features {:?}, and is {our:?}",
                    their.features
                ));
            }
        } else if our != their {
            found.push(format!("dependency {name} is {our:?}, upstream has {their:?}"));
        }
    }
    for (name, _) in &own {
        if !table(upstream, "dependencies").any(|(their, _)| their == *name) {
            found.push(format!("dependency {name} is not one of upstream's"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPSTREAM: &str = r#"
[package]
name = "x"
version = "1.0.0"
edition = "2021"
[features]
default = ["a"]
a = ["dep:socket2", "y/a"]
other = []
[dependencies.y]
version = "1.2"
features = ["a", "b"]
[dependencies.socket2]
version = "0.6"
optional = true
[dependencies.tokio]
version = "1"
features = ["net"]
optional = true
"#;

    const OURS: &str = r#"
[package]
name = "madsim-x"
version = "1.0.0"
edition = "2021"
[features]
default = ["a"]
a = ["y/a", "upstream/a"]
[dependencies]
y = { version = "1.2", features = ["b", "a"] }
socket2 = "0.6"
tokio = { package = "sim-tokio", path = "../tokio", features = ["net"] }
[target.'cfg(not(madsim))'.dependencies]
upstream = { package = "x", version = "=1.0.0" }
"#;

    const ALLOWED: Allowed<'_> = Allowed {
        features_left_out: &[("other", "not simulated")],
        features_changed: &[],
        dependencies_left_out: &[],
        always_on: &[("socket2", "the only runtime needs it")],
    };

    #[test]
    fn equal_manifests_pass() {
        assert_eq!(differences(OURS, UPSTREAM, &ALLOWED), Vec::<String>::new());
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let cases = [
            ("edition = \"2021\"", "edition = \"2024\"", "package.edition"),
            ("version = \"1.0.0\"", "version = \"1.0.1\"", "package.version"),
            ("version = \"=1.0.0\"", "version = \"1\"", "dependency `upstream`,"),
            ("[\"y/a\", \"upstream/a\"]", "[\"upstream/a\"]", "feature a is"),
            ("[\"y/a\", \"upstream/a\"]", "[\"y/a\"]", "not passed on"),
            ("a = [\"y/a\", \"upstream/a\"]", "", "feature a is missing"),
            ("default = [\"a\"]", "default = []", "feature default is"),
            (
                "default = [\"a\"]",
                "default = [\"a\"]\nother = []",
                "listed as left out",
            ),
            (
                "default = [\"a\"]",
                "default = [\"a\"]\nnew = []",
                "not one of upstream's",
            ),
            ("\"1.2\"", "\"1.3\"", "dependency y is"),
            ("[\"b\", \"a\"]", "[\"b\"]", "dependency y is"),
            ("socket2 = \"0.6\"", "", "dependency socket2 is missing"),
            (
                "socket2 = \"0.6\"",
                "socket2 = \"0.6\"\nz = \"1\"",
                "dependency z is not",
            ),
            ("package = \"sim-tokio\", ", "", "must be sim-tokio"),
            ("features = [\"net\"]", "features = []", "must be sim-tokio"),
        ];
        for (from, to, expected) in cases {
            let found = differences(&OURS.replacen(from, to, 1), UPSTREAM, &ALLOWED);
            assert!(
                found.iter().any(|line| line.contains(expected)),
                "{to:?}: {found:?} should name {expected:?}"
            );
        }
    }

    #[test]
    fn a_changed_feature_must_be_listed_and_a_listed_one_must_differ() {
        let allowed = Allowed {
            features_changed: &[("default", "only a is simulated")],
            ..ALLOWED
        };
        assert_eq!(
            differences(&OURS.replace("default = [\"a\"]", "default = []"), UPSTREAM, &allowed),
            Vec::<String>::new()
        );
        let found = differences(OURS, UPSTREAM, &allowed);
        assert!(found.len() == 1 && found[0].contains("listed as changed"), "{found:?}");
    }

    #[test]
    fn an_exemption_needs_a_reason() {
        let allowed = Allowed {
            features_left_out: &[("other", "")],
            ..ALLOWED
        };
        assert_eq!(
            differences(OURS, UPSTREAM, &allowed),
            ["the exemption of other has no reason"]
        );
    }
}
