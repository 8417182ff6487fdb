//! Whether a request came through a proxy: then its peer is the proxy, and who sent it is elsewhere.
//!
//! Only one direction is certain. A header that proxies add says that there is one; that there is none
//! says nothing (RFC 7239 section 8.1): proxies are configured, and many add none by default.

use http::HeaderMap;

/// Words within names, wherever they stand: who the client is, or that something was passed on.
const WORDS: [&str; 12] = [
    "forward",
    "client-ip",
    "clientip",
    "real-ip",
    "remote-ip",
    "remote-addr",
    "connecting-ip",
    "originating-ip",
    "source-ip",
    "socketip",
    "user-ip",
    "viewer-address",
];

/// How names begin that belong to one proxy, network of proxies or tunnel.
const FAMILIES: [&str; 77] = [
    "akamai-",
    "ali-cdn-",
    "authelia-",
    "cdn-",
    "cf-",
    "cloudfront-",
    "fastly-",
    "fly-",
    "incap-",
    "l5d-",
    "ngrok-",
    "oidc-",
    "proxy-",
    "remote-email",
    "remote-group",
    "remote-name",
    "remote-user",
    "ssl-client-",
    "surrogate-",
    "tailscale-",
    "true-",
    "wl-proxy-",
    "x-akam",
    "x-amz-cf-",
    "x-amzn-",
    "x-appengine-",
    "x-appgw-",
    "x-arr-",
    "x-auth-request-",
    "x-authenticated-",
    "x-authentik-",
    "x-azure-",
    "x-bluecoat-",
    "x-cache",
    "x-caddy-",
    "x-cdn",
    "x-cf-",
    "x-client-cert",
    "x-client-dn",
    "x-client-verify",
    "x-cloud-trace-",
    "x-cluster-",
    "x-consumer-",
    "x-edge",
    "x-envoy-",
    "x-fastly-",
    "x-fd-",
    "x-goog-",
    "x-haproxy-",
    "x-heroku-",
    "x-iinfo",
    "x-istio-",
    "x-kong-",
    "x-lb-",
    "x-linkerd-",
    "x-ms-client-",
    "x-nf-",
    "x-nginx-",
    "x-ngrok-",
    "x-oidc-",
    "x-original-",
    "x-pomerium-",
    "x-proxy-",
    "x-railway-",
    "x-remote-",
    "x-render-",
    "x-replaced-",
    "x-squid-",
    "x-ssl-",
    "x-sucuri-",
    "x-tailscale-",
    "x-traefik-",
    "x-tunnel-",
    "x-vcap-",
    "x-vercel-",
    "x-webauth-",
    "x-zscaler-",
];

/// Names that are whole.
const NAMES: [&str; 11] = [
    "front-end-https",
    "max-forwards",
    "via",
    "x-host",
    "x-proxyuser",
    "x-request-start",
    "x-scheme",
    "x-ssl",
    "x-url-scheme",
    "x-varnish",
    "x-via",
];

/// The name of a header that a proxy added; `None`: there is none, which proves nothing.
#[must_use]
pub(crate) fn proxy_header(headers: &HeaderMap) -> Option<&str> {
    headers
        .keys()
        .map(http::HeaderName::as_str)
        .find(|name| is_proxy_header(name))
}

/// Whether proxies add a header of this name. Underscores are read as what many servers make of them.
fn is_proxy_header(name: &str) -> bool {
    let name = name.replace('_', "-");
    NAMES.contains(&name.as_str())
        || FAMILIES.iter().any(|family| name.starts_with(family))
        || WORDS.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_proxies_tunnels_and_networks_are_known_as_such() {
        for name in [
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded",
            "x_forwarded_for",
            "via",
            "x-real-ip",
            "cf-connecting-ip",
            "cf-ray",
            "cdn-loop",
            "true-client-ip",
            "x-envoy-external-address",
            "x-envoy-expected-rq-timeout-ms",
            "tailscale-user-login",
            "x-client-ip",
            "x-original-forwarded-for",
            "x-original-host",
            "fly-client-ip",
            "akamai-origin-hop",
            "x-akamai-edgescape",
            "fastly-client-ip",
            "x-azure-clientip",
            "x-azure-socketip",
            "x-amzn-trace-id",
            "cloudfront-viewer-address",
            "x-cluster-client-ip",
            "x-goog-authenticated-user-email",
            "x-appengine-user-ip",
            "x-vercel-ip-country",
            "x-nf-client-connection-ip",
            "x-auth-request-email",
            "ngrok-auth-user-email",
            "x-scheme",
            "proxy-connection",
            "x-remote-user",
            "wl-proxy-client-ip",
            "x-forward-for",
            "x-imforwards",
            "do-connecting-ip",
            "x-nginx-proxy",
            "l5d-client-id",
            "x-cf-applicationid",
        ] {
            assert!(is_proxy_header(name), "{name}");
        }
    }

    #[test]
    fn headers_of_clients_are_not() {
        for name in [
            "accept",
            "accept-encoding",
            "authorization",
            "baggage",
            "connection",
            "content-length",
            "content-type",
            "cookie",
            "host",
            "last-event-id",
            "mcp-method",
            "mcp-protocol-version",
            "mcp-session-id",
            "origin",
            "pleiades-account",
            "sec-fetch-site",
            "traceparent",
            "user-agent",
            "x-api-key",
            "x-openai-key",
            "x-request-id",
            "x-org",
        ] {
            assert!(!is_proxy_header(name), "{name}");
        }
    }
}
