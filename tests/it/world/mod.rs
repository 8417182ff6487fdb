//! A world for one test: our own binary in front of fake providers, and clients of each revision.
//! Dropping it ends the gateway and fails the test when a child of it is left.

pub mod authorization;
pub mod browser;
pub mod client;
pub mod provider;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub use authorization::Authority;
pub use browser::Browser;
pub use client::TestClient;
pub use provider::FakeServer;

/// Longest wait for anything; a guard against hanging, never a measure.
pub const GUARD: Duration = Duration::from_secs(30);

/// The file that keeps the log.
const LOG: &str = "log";

/// A running gateway.
pub struct World {
    pub base: String,
    pub admin: String,
    pub folder: tempfile::TempDir,
    pub process: Option<Child>,
    pub http: reqwest::Client,
}

/// What a world is made of.
#[derive(Default)]
pub struct Builder {
    descriptors: Vec<(String, String)>,
    settings: String,
    env: Vec<(String, String)>,
    program: Option<PathBuf>,
    files: Vec<(String, String)>,
    arguments: Vec<String>,
    is_logged: bool,
}

impl Builder {
    /// A descriptor file; `body` is everything but the id.
    pub fn descriptor(mut self, id: &str, body: &str) -> Self {
        self.descriptors
            .push((format!("{id}.yaml"), format!("id: {id}\n{body}")));
        self
    }

    /// A provider at a fake, without credentials.
    pub fn provider(self, id: &str, fake: &FakeServer) -> Self {
        self.provider_with(id, fake, "auth: { none: {} }\n")
    }

    /// A provider at a fake, with the rest of its descriptor.
    pub fn provider_with(self, id: &str, fake: &FakeServer, rest: &str) -> Self {
        self.descriptor(id, &format!("upstream: {{ url: \"{}\" }}\n{rest}", fake.url))
    }

    /// The descriptors that ship, as they stand.
    pub fn shipped(mut self) -> Self {
        for file in pleiades_descriptor::files(std::path::Path::new("providers.d")).unwrap() {
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            self.descriptors
                .push((name, std::fs::read_to_string(&file).unwrap()));
        }
        self
    }

    /// Another file of the same program.
    pub fn program(mut self, file: PathBuf) -> Self {
        self.program = Some(file);
        self
    }

    /// Lines of `pleiades.yaml`.
    pub fn settings(mut self, lines: &str) -> Self {
        self.settings.push_str(lines);
        self
    }

    /// A variable of the gateway's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file beside `pleiades.yaml`.
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Arguments of the program.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|it| (*it).to_owned()).collect();
        self
    }

    /// Keeps the log, from `info` on, for [`World::log`] and [`World::line`].
    pub fn logged(mut self) -> Self {
        self.is_logged = true;
        self
    }

    /// Starts the gateway and waits until it is ready.
    pub async fn start(self) -> World {
        let world = self.launch();
        world.until_ready().await;
        world
    }

    /// Starts the gateway and waits for nothing.
    pub fn launch(self) -> World {
        let folder = tempfile::tempdir().unwrap();
        let providers = folder.path().join("providers.d");
        std::fs::create_dir(&providers).unwrap();
        for (name, text) in &self.descriptors {
            std::fs::write(providers.join(name), text).unwrap();
        }
        std::fs::create_dir(folder.path().join("run")).unwrap();
        let (listen, admin) = (free_port(), free_port());
        let settings = format!(
            "listen: 127.0.0.1:{listen}\nadmin: 127.0.0.1:{admin}\nshutdown: {{ drain: 0s, grace: 5s }}\n{}",
            self.settings
        );
        std::fs::write(folder.path().join("pleiades.yaml"), settings).unwrap();
        for (name, text) in &self.files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let program = self.program;
        let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_pleiades").into());
        let mut command = Command::new(program);
        command
            .args(&self.arguments)
            .current_dir(folder.path())
            .env("XDG_DATA_HOME", folder.path().join("data"))
            .env("XDG_CONFIG_HOME", folder.path().join("config"))
            .env("XDG_RUNTIME_DIR", folder.path().join("run"))
            .env(
                "RUST_LOG",
                std::env::var("TEST_LOG").unwrap_or_else(|_| "warn".to_owned()),
            )
            .stdin(Stdio::null());
        if self.is_logged {
            let log = std::fs::File::create(folder.path().join(LOG)).unwrap();
            command.env("RUST_LOG", "info").stderr(log);
        }
        command.envs(self.env);
        let process = command.spawn().unwrap();
        World {
            base: format!("http://127.0.0.1:{listen}"),
            admin: format!("http://127.0.0.1:{admin}"),
            folder,
            process: Some(process),
            http: http(),
        }
    }
}

impl World {
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub fn providers(&self) -> PathBuf {
        self.folder.path().join("providers.d")
    }

    /// The lines of the log so far.
    pub fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join(LOG)).unwrap();
        // The last one may be half written.
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// The line of a request, by its id.
    pub async fn line(&self, request_id: &str) -> Value {
        let find = || {
            self.log()
                .into_iter()
                .find(|line| line["target"] == "pleiades::request" && line["request.id"] == request_id)
        };
        self.until(&format!("the line of {request_id}"), || async {
            find().is_some()
        })
        .await;
        find().unwrap()
    }

    async fn until_ready(&self) {
        self.until("the gateway to be ready", || async {
            let ready = self.http.get(format!("{}/ready", self.admin)).send().await;
            ready.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
    }

    /// Waits for a condition, polling.
    pub async fn until<F: Future<Output = bool>>(&self, what: &str, condition: impl Fn() -> F) {
        let started = Instant::now();
        while !condition().await {
            assert!(started.elapsed() < GUARD, "gave up waiting for {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// `/providers` of one id.
    pub async fn status(&self, id: &str) -> Value {
        let report: Value = json(
            self.http
                .get(format!("{}/providers", self.admin))
                .send()
                .await
                .unwrap(),
        )
        .await;
        let entries = report["providers"].as_array().cloned().unwrap_or_default();
        entries
            .into_iter()
            .find(|entry| entry["id"] == id)
            .unwrap_or(Value::Null)
    }

    /// Waits until a provider is in a state.
    pub async fn until_state(&self, id: &str, state: &str) {
        self.until(&format!("{id} to be {state}"), || async {
            self.status(id).await["state"] == state
        })
        .await;
    }

    /// The metrics page.
    pub async fn metrics(&self) -> String {
        self.http
            .get(format!("{}/metrics", self.admin))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    }

    /// Asks it to end, as Kubernetes does.
    pub fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(self.process.as_ref().unwrap());
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        let pid = rustix::process::Pid::from_child(&process);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).ok();
        let started = Instant::now();
        while process.try_wait().ok().flatten().is_none() {
            if started.elapsed() > GUARD {
                process.kill().ok();
                process.wait().ok();
                assert!(std::thread::panicking(), "the gateway did not end");
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A client without surprises.
pub fn http() -> reqwest::Client {
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder()
        .timeout(GUARD)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

/// A response's JSON: the body, or the last message of its event stream.
pub async fn json(response: reqwest::Response) -> Value {
    let stream = response
        .headers()
        .get("content-type")
        .is_some_and(|kind| kind.to_str().unwrap().starts_with("text/event-stream"));
    let text = response.text().await.unwrap();
    if stream {
        return client::events(&text).pop().unwrap_or(Value::Null);
    }
    serde_json::from_str(&text).unwrap_or(Value::Null)
}
