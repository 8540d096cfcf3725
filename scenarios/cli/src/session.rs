//! From the command line to jobs: finds a worker, asks it what there is, reads the files that were named and has every
//! combination checked before the first seed runs, so that a misspelt name costs a moment and not a night.
use crate::args::{WorkerArgs, WorldArgs};
use crate::client::{Client, Start};
use crate::failure::Build;
use crate::fingerprint;
use crate::launch::{self, Profile};
use crate::pool::Pool;
use crate::problem::Problem;
use crate::protocol::{Catalog, ScenarioInfo, ScenarioSource, SeedJob};
use std::path::{Path, PathBuf};

/// A worker that answered, and what it can do.
pub struct Session {
    /// The worker's binary.
    pub worker: PathBuf,
    /// A worker for questions.
    pub client: Client,
    /// What there is to run.
    pub catalog: Catalog,
}

/// One scenario of a run: a job without its seed, and what the worker says about it.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Everything but the seed.
    pub job: SeedJob,
    /// As the worker understands it.
    pub scenario: ScenarioInfo,
}

impl Session {
    /// Finds or builds a worker and asks for its catalog.
    pub fn open(profile: Profile) -> Result<Session, Problem> {
        let worker = launch::worker(profile)?;
        let mut client = Client::start(&worker, &Start::default())?;
        let catalog = client.catalog()?;
        Ok(Session {
            worker,
            client,
            catalog,
        })
    }

    /// The jobs for these scenarios (none: the whole catalog), each checked by the worker.
    pub fn plan(
        &mut self,
        scenarios: &[String],
        design: Option<&str>,
        world: &WorldArgs,
    ) -> Result<Vec<Planned>, Problem> {
        let tape = world.tape.as_deref().map(absolute).transpose()?;
        let names: Vec<String> = match (scenarios.is_empty(), tape.is_some()) {
            (false, _) => scenarios.to_vec(),
            // One scenario is enough for a tape, which is long; the others are had by naming them.
            (true, true) => vec![self.catalog.tape_scenario.clone()],
            (true, false) => self
                .catalog
                .scenarios
                .iter()
                .map(|scenario| scenario.name.clone())
                .collect(),
        };
        let mut planned = Vec::new();
        for name in &names {
            let mut job = SeedJob {
                scenario: scenario_source(name)?,
                design: design.unwrap_or_default().to_string(),
                without: world.without.clone(),
                kindness: world.kindness.clone(),
                tape: tape.clone(),
                ..SeedJob::default()
            };
            let (scenario, design) = self.client.check(&job)?;
            job.design = design;
            planned.push(Planned { job, scenario });
        }
        Ok(planned)
    }

    /// The same worker, as many times as asked for.
    pub fn pool(&self, arguments: &WorkerArgs, tape: bool) -> Pool {
        Pool {
            worker: self.worker.clone(),
            workers: Pool::workers_or_cores(arguments.workers),
            limit_ms: arguments.limit_ms(tape, self.client.ready.profile == "debug"),
            start: Start::default(),
            fresh_worker_per_seed: false,
        }
    }

    /// Which build of the worker this is.
    pub fn build(&self) -> Result<Build, Problem> {
        Ok(Build {
            worker: self.client.ready.clone(),
            worker_sha256: fingerprint::of_file(&self.worker)?,
        })
    }
}

/// A name in the catalog, or the text of a file.
pub fn scenario_source(name: &str) -> Result<ScenarioSource, Problem> {
    let path = Path::new(name);
    let is_a_path = path.extension().is_some_and(|extension| extension == "toml") || name.contains('/');
    if !is_a_path {
        return Ok(ScenarioSource::Named(name.to_string()));
    }
    if !path.is_file() {
        let hint = "name a scenario file, or one of the scenarios that `cargo quench list` shows";
        return Err(Problem::NoFile {
            path: path.to_path_buf(),
            hint,
        });
    }
    let toml = std::fs::read_to_string(path).map_err(Problem::file("read the scenario", path))?;
    Ok(ScenarioSource::Inline {
        origin: name.to_string(),
        toml,
    })
}

/// A plan to run: a plan's own file, or a saved failure that holds one.
pub fn read_plan(path: &Path) -> Result<serde_json::Value, Problem> {
    let bad = |why: String| Problem::Content {
        path: path.to_path_buf(),
        why,
    };
    if !path.is_file() {
        let hint = "--plan takes a plan, or a failure that `cargo quench run` saved";
        return Err(Problem::NoFile {
            path: path.to_path_buf(),
            hint,
        });
    }
    let text = std::fs::read_to_string(path).map_err(Problem::file("read the plan", path))?;
    let mut json: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| bad(format!("is not JSON, so no plan (cut off?): {error}")))?;
    let is_a_plan = |json: &serde_json::Value| json.get("faults").is_some_and(serde_json::Value::is_array);
    if is_a_plan(&json) {
        return Ok(json);
    }
    match json.pointer_mut("/job/plan").map(serde_json::Value::take) {
        Some(plan) if is_a_plan(&plan) => Ok(plan),
        _ => Err(bad(
            "holds no plan: neither a list `faults` nor a saved failure's `job.plan`".into(),
        )),
    }
}

/// A path that means the same in the worker. Every seed reads the tape anew, so it must be a file.
fn absolute(path: &Path) -> Result<String, Problem> {
    if !path.is_file() {
        let hint = "--tape takes a LOBSTER message file, .csv or .csv.gz";
        return Err(Problem::NoFile {
            path: path.to_path_buf(),
            hint,
        });
    }
    let full = std::fs::canonicalize(path).map_err(Problem::file("find", path))?;
    let why = "its path is not UTF-8, which job lines cannot carry".to_string();
    full.into_os_string().into_string().map_err(|_| Problem::Content {
        path: path.to_path_buf(),
        why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_a_name_or_a_file() {
        assert_eq!(scenario_source("pause").unwrap(), ScenarioSource::Named("pause".into()));
        let error = scenario_source("nowhere/mine.toml").unwrap_err().to_string();
        assert!(error.contains("nowhere/mine.toml"), "{error}");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mine.toml");
        std::fs::write(&path, "version = 1\n").unwrap();
        let origin = path.to_str().unwrap().to_string();
        let expected = ScenarioSource::Inline {
            origin: origin.clone(),
            toml: "version = 1\n".into(),
        };
        assert_eq!(scenario_source(&origin).unwrap(), expected);
    }

    #[test]
    fn a_plan_is_read_from_its_own_file_and_from_a_failure() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plan.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_plan(&path)
        };
        let plan = serde_json::json!({ "version": 1, "faults": [] });
        assert_eq!(read(&plan.to_string()).unwrap(), plan);
        assert_eq!(
            read(&serde_json::json!({ "version": 1, "job": { "plan": plan } }).to_string()).unwrap(),
            plan
        );
        assert!(read("{}").unwrap_err().to_string().contains("holds no plan"));
        assert!(read("nonsense").unwrap_err().to_string().contains("not JSON"));
    }
}
