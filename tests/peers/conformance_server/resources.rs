//! Resources, by their URIs.

use rmcp::ErrorData;
use serde_json::{Value, json};

use crate::content::PIXEL;

pub(crate) fn listed() -> Value {
    json!([
        resource("test://static-text", "Static text", "text/plain"),
        resource("test://static-binary", "Static image", "image/png"),
        resource("test://watched-resource", "A resource to watch", "text/plain"),
    ])
}

pub(crate) fn templates() -> Value {
    json!([{
        "uriTemplate": "test://template/{id}/data", "name": "template",
        "description": "Data by its id.", "mimeType": "application/json",
    }])
}

fn resource(uri: &str, about: &str, kind: &str) -> Value {
    let name = uri.trim_start_matches("test://");
    json!({"uri": uri, "name": name, "description": about, "mimeType": kind})
}

/// The contents of a resource.
///
/// # Errors
///
/// Not found, with the URI in its data.
pub(crate) fn read(uri: &str) -> Result<Value, ErrorData> {
    let text = |kind: &str, text: &str| json!({"uri": uri, "mimeType": kind, "text": text});
    let templated = uri
        .strip_prefix("test://template/")
        .and_then(|rest| rest.strip_suffix("/data"))
        .filter(|id| !id.is_empty() && !id.contains('/'));
    Ok(match (uri, templated) {
        ("test://static-text", _) => text("text/plain", "This is the content of the static text resource."),
        ("test://static-binary", _) => json!({"uri": uri, "mimeType": "image/png", "blob": PIXEL}),
        ("test://watched-resource", _) => text("text/plain", "This resource is watched."),
        (_, Some(id)) => {
            let data = json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")});
            text("application/json", &data.to_string())
        }
        _ => {
            let data = json!({"uri": uri});
            return Err(ErrorData::resource_not_found("resource not found", Some(data)));
        }
    })
}
