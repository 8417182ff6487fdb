//! Names of every metric, the events that move them, and the log.

// SEAM (signatures fixed):
//
// pub mod names;     // every metric of contracts 8 that is alive, registered once; only place that touches `prometheus`
// pub struct Metrics // owns a Registry; cheap to share as Arc
// impl Metrics {
//     pub fn new() -> Arc<Metrics>;                       // process_*, build_info included
//     pub fn render(&self) -> String;                     // Prometheus text
//     pub fn forget(&self, provider: &str);               // drops the label values of a removed provider
//     pub fn inflight(self: &Arc<Self>, provider: &Arc<str>) -> InflightGuard;
//     // setters for gauges: reload(outcome, generation), providers(counts by State str), tools(provider, n),
//     //   breaker(provider, 0|1|2), limited(provider, rule), sessions(n), streams(delta)
// }
// pub mod events { /// One struct per occurrence; `emit(&Metrics)` writes log line, metric and labels together.
//     pub struct RequestDone { request_id, method, view: View, provider: Option<Arc<str>>, tool: Option<String> (closed set: "other"),
//         outcome: &'static str, duration: Duration, upstream: Option<Duration>, principal, revision, status: u16, trace: Option<..> }
//     pub struct Reloaded {..}  pub struct ProviderChanged {..} … }
// pub mod log { pub fn init(format: Format) }  // tracing-subscriber; RUST_LOG, default info; JSON lines off a terminal; stderr always
