// Closed-loop MCP load generator over raw keep-alive HTTP/1.1.
// Usage: mcpload <host:port> <path> <concurrency> <seconds> <tool> [legacy|modern|raw] [--pid N[,N...]] [--args JSON] [--warm SECONDS] [--list] [--header 'K: V']... [--shared-session]
// legacy: initialize + initialized once per connection (own session), then tools/call with Mcp-Session-Id.
// modern: 2026-07-28 stateless: no session, per-request _meta and Mcp-Method/Mcp-Name headers.
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

struct Resp {
    status: u16,
    session: Option<String>,
    body: Vec<u8>,
}
struct Conn {
    s: TcpStream,
    buf: Vec<u8>,
}
fn find(h: &[u8], n: &[u8]) -> Option<usize> {
    h.windows(n.len()).position(|w| w == n)
}
impl Conn {
    async fn fill(&mut self) -> std::io::Result<()> {
        let n = self.s.read_buf(&mut self.buf).await?;
        if n == 0 {
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "eof"));
        }
        Ok(())
    }
    async fn call(&mut self, req: &[u8], keep_body: bool) -> std::io::Result<Resp> {
        self.s.write_all(req).await?;
        let he = loop {
            if let Some(p) = find(&self.buf, b"\r\n\r\n") {
                break p;
            }
            self.fill().await?;
        };
        let head = String::from_utf8_lossy(&self.buf[..he]).to_string();
        let status: u16 = head.get(9..12).and_then(|x| x.parse().ok()).unwrap_or(0);
        let (mut cl, mut chunked, mut session) = (0usize, false, None);
        for l in head.split("\r\n").skip(1) {
            let Some((k, v)) = l.split_once(':') else { continue };
            let v = v.trim();
            if k.eq_ignore_ascii_case("content-length") {
                cl = v.parse().unwrap_or(0)
            } else if k.eq_ignore_ascii_case("transfer-encoding") {
                chunked = v.eq_ignore_ascii_case("chunked")
            } else if k.eq_ignore_ascii_case("mcp-session-id") {
                session = Some(v.to_string())
            }
        }
        let mut pos = he + 4;
        let mut body = Vec::new();
        if chunked {
            loop {
                let e = loop {
                    if let Some(p) = find(&self.buf[pos..], b"\r\n") {
                        break p;
                    }
                    self.fill().await?;
                };
                let n = usize::from_str_radix(
                    std::str::from_utf8(&self.buf[pos..pos + e])
                        .unwrap()
                        .split(';')
                        .next()
                        .unwrap()
                        .trim(),
                    16,
                )
                .unwrap();
                pos += e + 2;
                while self.buf.len() < pos + n + 2 {
                    self.fill().await?;
                }
                if keep_body {
                    body.extend_from_slice(&self.buf[pos..pos + n]);
                }
                pos += n + 2;
                if n == 0 {
                    break;
                }
            }
        } else {
            while self.buf.len() < pos + cl {
                self.fill().await?;
            }
            if keep_body {
                body.extend_from_slice(&self.buf[pos..pos + cl]);
            }
            pos += cl;
        }
        self.buf.drain(..pos);
        Ok(Resp {
            status,
            session,
            body,
        })
    }
}
fn post(host: &str, path: &str, hdrs: &str, body: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n{hdrs}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
fn cpu_ticks(pid: u32) -> Option<u64> {
    let s = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let r: Vec<&str> = s[s.rfind(')')? + 2..].split(' ').collect();
    Some(r[11].parse::<u64>().ok()? + r[12].parse::<u64>().ok()?)
}
fn rss_kb(pid: u32, f: &str) -> u64 {
    std::fs::read_to_string(format!("/proc/{pid}/status"))
        .ok()
        .and_then(|s| {
            s.lines()
                .find(|l| l.starts_with(f))
                .and_then(|l| l.split_whitespace().nth(1).and_then(|x| x.parse().ok()))
        })
        .unwrap_or(0)
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (host, path) = (a[1].clone(), a[2].clone());
    let conc: usize = a[3].parse().unwrap();
    let secs: f64 = a[4].parse().unwrap();
    let tool = a[5].clone();
    let mode = a.get(6).cloned().unwrap_or("legacy".into());
    let (mut pids, mut list, mut extra, mut json) = (
        Vec::new(),
        false,
        String::new(),
        r#"{"name":"bench","count":3}"#.to_string(),
    );
    let (mut i, mut warm) = (7, 1.0);
    while i < a.len() {
        match a[i].as_str() {
            "--pid" => {
                pids = a[i + 1]
                    .split(',')
                    .filter_map(|p| p.parse::<u32>().ok())
                    .collect();
                i += 1
            }
            "--args" => {
                json = a[i + 1].clone();
                i += 1
            }
            "--warm" => {
                warm = a[i + 1].parse().unwrap();
                i += 1
            }
            "--list" => list = true,
            "--header" => {
                extra.push_str(&a[i + 1]);
                extra.push_str("\r\n");
                i += 1
            }
            _ => {}
        }
        i += 1;
    }
    let rt = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    rt.block_on(async move {
        let mut conns = Vec::new();
        for k in 0..conc {
            let s = TcpStream::connect(&host).await.expect("connect");
            s.set_nodelay(true).unwrap();
            let mut c = Conn { s, buf: Vec::with_capacity(65536) };
            let mut h = extra.clone();
            let m = if list { "tools/list" } else { "tools/call" };
            let args = if list { String::new() } else { format!(r#""name":"{tool}","arguments":{json}"#) };
            let body;
            if mode == "modern" {
                h.push_str(&format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {m}\r\n"));
                if !list { h.push_str(&format!("Mcp-Name: {tool}\r\n")); }
                let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"bench","version":"0"},"io.modelcontextprotocol/clientCapabilities":{}}"#;
                body = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{m}","params":{{{}{}{meta}}}}}"#, args, if args.is_empty() { "" } else { "," });
            } else {
                if mode == "legacy" {
                    let init = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"bench","version":"0"}}}"#;
                    let r = c.call(&post(&host, &path, &extra, init), true).await.expect("init");
                    if k == 0 { eprintln!("initialize -> {} {}", r.status, String::from_utf8_lossy(&r.body).chars().take(300).collect::<String>()); }
                    h.push_str("MCP-Protocol-Version: 2025-06-18\r\n");
                    if let Some(s) = r.session { h.push_str(&format!("Mcp-Session-Id: {s}\r\n")); }
                    let r = c.call(&post(&host, &path, &h, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#), true).await.expect("inited");
                    if k == 0 { eprintln!("initialized -> {}", r.status); }
                }
                body = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{m}","params":{{{args}}}}}"#);
            }
            let req = post(&host, &path, &h, &body);
            let r = c.call(&req, true).await.expect("first");
            if k == 0 { eprintln!("{m} -> {} {}", r.status, String::from_utf8_lossy(&r.body).chars().take(400).collect::<String>()); }
            conns.push((c, req));
        }
        // the warm-up (1 s) is part of each task, not counted
        let start = Instant::now() + Duration::from_secs_f64(warm);
        let end = start + Duration::from_secs_f64(secs);
        let hs: Vec<_> = conns.into_iter().map(|(mut c, req)| tokio::spawn(async move {
            let (mut lat, mut bad) = (Vec::<u32>::with_capacity(1 << 16), 0u64);
            loop {
                let t = Instant::now();
                if t >= end { break; }
                match c.call(&req, true).await {
                    Ok(r) => {
                        let ok = r.status == 200 && find(&r.body, b"\"result\"").is_some() && find(&r.body, b"\"isError\":true").is_none();
                        if t >= start { if ok { lat.push((t.elapsed().as_nanos() / 100) as u32) } else { bad += 1 } }
                    }
                    Err(_) => { bad += 1; break; }
                }
            }
            (lat, bad)
        })).collect();
        tokio::time::sleep_until(start.into()).await;
        let c0 = pids.iter().map(|p| cpu_ticks(*p)).sum::<Option<u64>>();
        tokio::time::sleep_until((end - Duration::from_millis(5)).into()).await;
        let c1 = pids.iter().map(|p| cpu_ticks(*p)).sum::<Option<u64>>();
        let rss = Some((pids.iter().map(|p| rss_kb(*p, "VmRSS")).sum::<u64>(), pids.iter().map(|p| rss_kb(*p, "VmHWM")).sum::<u64>())).filter(|_| !pids.is_empty());
        let (mut all, mut bad) = (Vec::new(), 0);
        for h in hs { let (l, b) = h.await.unwrap(); all.extend(l); bad += b; }
        all.sort_unstable();
        let n = all.len();
        let p = |q: f64| if n == 0 { 0.0 } else { all[((n as f64 * q) as usize).min(n - 1)] as f64 / 10.0 };
        let cpu = match (c0, c1) { (Some(x), Some(y)) if !pids.is_empty() => format!(" cpu_us/req={:.1} cpu%={:.0}", (y - x) as f64 * 10_000.0 / n as f64, (y - x) as f64 * 1.0 / secs), _ => String::new() };
        let mem = rss.map(|(r, h)| format!(" rss={:.1}MiB hwm={:.1}MiB", r as f64 / 1024.0, h as f64 / 1024.0)).unwrap_or_default();
        println!("c={conc} mode={mode} rps={:.0} p50={:.1}us p90={:.1}us p99={:.1}us p99.9={:.1}us max={:.1}us errors={bad}{cpu}{mem}", n as f64 / secs, p(0.5), p(0.9), p(0.99), p(0.999), p(1.0));
    });
}
