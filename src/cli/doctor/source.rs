//! The descriptor and the references in it: the steps that ask nobody.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::gateway::{GatewayState, ProviderReport};
use super::step::{Redactor, StepDetail, StepFailure, Steps};
use crate::cli::{exit, ui, unknown_provider};
use pleiades_core::error::Code;
use pleiades_descriptor::reader::{Kind, Node, Pos, reference_names, resolved_tree};
use pleiades_descriptor::{Auth, Descriptor, DescriptorFile, Fault, ReadContext, Severity};

#[derive(Debug)]
pub(super) struct DescriptorSource {
    read: DescriptorFile,
    /// Places of texts with references, and how many references stand there.
    references: Vec<(Pos, usize)>,
    /// Files that claim the same id, where this one is sound.
    rivals: Vec<PathBuf>,
}

impl DescriptorSource {
    /// Finds a provider's file by its id, a broken one by the file's name; prints why there is none.
    pub(super) fn find(folder: &Path, provider: &str, world: &ReadContext) -> Result<Self, u8> {
        let files = pleiades_descriptor::files(folder).map_err(|error| {
            ui::fail(format_args!(
                "the folder {}: {error}; name it with `--providers`",
                folder.display()
            ));
            exit::USAGE
        })?;
        let mut reads: Vec<DescriptorFile> = files
            .iter()
            .map(|file| pleiades_descriptor::read_file(file, world))
            .collect();
        pleiades_descriptor::mark_duplicates(&mut reads);
        let names: Vec<String> = reads.iter().map(name).collect();
        // A file whose id another one has is listed under its own name, with or without its ending.
        let is_file = |read: &DescriptorFile| {
            let file = &read.file;
            let names = [file.file_stem(), file.file_name(), Some(file.as_os_str())];
            names.into_iter().flatten().any(|name| name == provider)
        };
        let by_name = names.iter().position(|name| name == provider);
        let Some(at) = by_name.or_else(|| reads.iter().position(is_file)) else {
            let names = names.iter().map(String::as_str);
            ui::fail(unknown_provider(folder, provider, names));
            return Err(exit::USAGE);
        };
        let is_sound = reads.get(at).is_some_and(|read| read.descriptor.is_some());
        let read = reads.swap_remove(at);
        let is_rival = |other: &&DescriptorFile| is_sound && read.id.is_some() && other.id == read.id;
        let rivals = reads.iter().filter(is_rival).map(|other| other.file.clone());
        Ok(Self {
            rivals: rivals.collect(),
            references: Vec::new(),
            read,
        })
    }

    pub(super) fn file(&self) -> PathBuf {
        self.read.file.clone()
    }

    /// Everything that must not be printed.
    pub(super) fn redactor(&mut self, world: &ReadContext) -> Redactor {
        let mut redactor = Redactor::default();
        if let Some(root) = resolved_tree(&self.read.file, world) {
            self.collect_references(&root, world, &mut redactor);
        }
        if let Some(descriptor) = &self.read.descriptor {
            hide(descriptor, world, &mut redactor);
        }
        redactor
    }

    fn collect_references(&mut self, node: &Node, world: &ReadContext, redactor: &mut Redactor) {
        match &node.kind {
            Kind::Text(text) if text.has_references => {
                let names: Vec<&str> = reference_names(&text.raw).collect();
                self.references.push((node.at, names.len()));
                for value in names.into_iter().filter_map(|name| (world.env)(name)) {
                    redactor.hide(&value, 4);
                }
                redactor.hide(text.resolved.as_deref().unwrap_or_default(), 4);
            }
            Kind::List(items) => items
                .iter()
                .for_each(|item| self.collect_references(item, world, redactor)),
            Kind::Map(entries) => entries
                .iter()
                .for_each(|entry| self.collect_references(&entry.value, world, redactor)),
            _ => {}
        }
    }

    /// The steps `descriptor` and `references`; the descriptor when it can be worked with.
    pub(super) fn check(
        self,
        steps: &mut Steps,
        began: Instant,
        running: Option<&ProviderReport>,
    ) -> Option<Descriptor> {
        let is_reference = |fault: &&Fault| {
            let places = self.references.iter().map(|(at, _)| (at.line, at.column));
            places.into_iter().any(|at| at == (fault.line, fault.column))
        };
        let (references, own): (Vec<&Fault>, Vec<&Fault>) = self.read.faults.iter().partition(is_reference);
        let shown = |faults: &[&Fault]| faults.iter().map(|fault| line(fault)).collect::<Vec<_>>();
        let file = self.read.file.display();
        let sound = if own.iter().any(|fault| fault.is_fatal()) {
            Err(self.broken(shown(&own), running))
        } else {
            let off = if self.read.enabled {
                ""
            } else {
                " (disabled: `enabled: false`)"
            };
            Ok(StepDetail {
                detail: format!("{file}{off}"),
                lines: shown(&own),
            })
        };
        let is_sound = steps.end("descriptor", began, sound);
        let count: usize = self.references.iter().map(|(_, count)| count).sum();
        let began = Instant::now();
        let is_resolved = match references.iter().find(|fault| fault.severity != Severity::Note) {
            // It is set where the gateway started, which says how the provider is.
            Some(_) if is_sound && running.is_some_and(ProviderReport::has_read_it_well) => {
                let why = "a reference has no value in this shell; the gateway that runs has it";
                steps.skip_with("references", why, &shown(&references));
                false
            }
            Some(first) => {
                let cure = first.cure.clone().unwrap_or_else(|| "correct it".to_owned());
                let mut trouble = StepFailure::new(Code::UnknownProvider, "a reference has no value", cure);
                trouble.lines = shown(&references);
                steps.end("references", began, Err(trouble))
            }
            None if count == 0 => {
                steps.skip("references", "there are none");
                true
            }
            None => steps.end("references", began, Ok(format!("{count} resolved").into())),
        };
        self.read.descriptor.filter(|_| is_sound && is_resolved)
    }
}

impl DescriptorSource {
    /// What is wrong with a file that cannot be used, or not by itself.
    fn broken(&self, lines: Vec<String>, running: Option<&ProviderReport>) -> StepFailure {
        let file = self.read.file.display();
        let rivals: Vec<String> = self
            .rivals
            .iter()
            .map(|file| format!("`{}`", file.display()))
            .collect();
        let is_served = running.is_some_and(ProviderReport::is_served);
        let (detail, cure) = match rivals.as_slice() {
            [] => (
                format!("{file} is broken"),
                format!("correct it; `pleiades check {file}` says all of it"),
            ),
            others => (
                format!("{file} is sound, and {} has the same id", others.join(", ")),
                format!("give {} an id of its own", others.join(", ")),
            ),
        };
        let detail = match running.map(|report| &report.state) {
            Some(GatewayState::Runs) if rivals.is_empty() => {
                format!("{detail}; the gateway that runs serves its last good version")
            }
            _ => detail,
        };
        StepFailure {
            // Calls are answered as long as something is served.
            code: (!is_served && rivals.is_empty()).then_some(Code::UnknownProvider),
            detail,
            cure,
            lines,
        }
    }
}

fn name(read: &DescriptorFile) -> String {
    let stem = read
        .file
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    read.id.clone().or(stem).unwrap_or_default()
}

/// A fault without its file, which stands above it.
fn line(fault: &Fault) -> String {
    let cure = fault.cure.as_deref().unwrap_or_default().replace('\n', "; ");
    let Fault {
        line,
        column,
        field,
        message,
        ..
    } = fault;
    let head = match fault.severity {
        Severity::Fault => "",
        Severity::Warning => "warning: ",
        Severity::Private | Severity::Note => "note: ",
    };
    format!("{line}:{column}: {field}: {head}{message} ({cure})")
}

fn hide(descriptor: &Descriptor, world: &ReadContext, redactor: &mut Redactor) {
    let upstream = &descriptor.upstream;
    for value in upstream.headers.values().chain(upstream.env.values()) {
        redactor.hide(value.expose(), 6);
    }
    for (_, value) in upstream.url.iter().flat_map(url::Url::query_pairs) {
        redactor.hide(&value, 6);
    }
    match &descriptor.auth {
        Auth::ApiKey(key) => redactor.hide(key.value.expose(), 3),
        Auth::ClientKey(key) => {
            let own = key.env.as_deref().and_then(|name| (world.env)(name));
            redactor.hide(&own.unwrap_or_default(), 3);
            redactor.hide(key.fallback.as_ref().map_or("", |key| key.expose()), 3);
        }
        Auth::Oauth(oauth) => flow(&oauth.flow, redactor),
        Auth::ClientCredentials(client) => flow(&client.flow, redactor),
        Auth::None(_) => {}
    }
}

fn flow(flow: &pleiades_descriptor::OAuthFlow, redactor: &mut Redactor) {
    for secret in [&flow.client_secret, &flow.private_key].into_iter().flatten() {
        redactor.hide(secret.expose(), 3);
    }
}
