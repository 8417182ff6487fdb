//! A browser as far as connect pages need one: cookies by origin, forms, redirects one at a time.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use reqwest::Method;
use url::Url;

/// A browser of one person.
pub struct Browser {
    http: reqwest::Client,
    jar: Mutex<BTreeMap<(String, String), String>>,
    /// Headers that it adds to each request.
    pub headers: Vec<(&'static str, String)>,
}

/// What it shows.
#[derive(Debug)]
pub struct BrowserPage {
    pub url: Url,
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: String,
}

impl Default for Browser {
    fn default() -> Self {
        Self {
            http: super::http(),
            jar: Mutex::default(),
            headers: Vec::new(),
        }
    }
}

impl Browser {
    /// Opens a page.
    pub async fn get(&self, url: &str) -> BrowserPage {
        self.send(Method::GET, url, None).await
    }

    /// Sends a form.
    pub async fn post(&self, url: &str, fields: &[(&str, &str)]) -> BrowserPage {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        self.send(Method::POST, url, Some(form.finish())).await
    }

    /// Any request.
    pub async fn send(&self, method: Method, url: &str, form: Option<String>) -> BrowserPage {
        let url = Url::parse(url).unwrap();
        let origin = url.origin().ascii_serialization();
        let cookies: Vec<String> = self
            .jar
            .lock()
            .iter()
            .filter(|((of, _), _)| *of == origin)
            .map(|((_, name), value)| format!("{name}={value}"))
            .collect();
        let mut request = self.http.request(method, url.clone());
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some(form) = form {
            request = request
                .header("content-type", "application/x-www-form-urlencoded")
                .header("origin", "null")
                .body(form);
        }
        let response = request.send().await.unwrap();
        for cookie in response.headers().get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            let (pair, attributes) = cookie.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            let key = (origin.clone(), name.to_owned());
            if attributes.contains("Max-Age=0") {
                self.jar.lock().remove(&key);
            } else {
                self.jar.lock().insert(key, value.to_owned());
            }
        }
        BrowserPage {
            url,
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.text().await.unwrap(),
        }
    }

    /// Brings the cookies of one origin to another as well, as behind one address of several replicas.
    pub fn share(&self, from: &str, to: &str) {
        let mut jar = self.jar.lock();
        let own = jar.iter().filter(|((of, _), _)| of == from);
        let own: Vec<_> = own
            .map(|((_, name), value)| ((to.to_owned(), name.clone()), value.clone()))
            .collect();
        jar.extend(own);
    }

    /// Opens a link and sends its form with these fields beside the hidden ones: where it leads.
    pub async fn begin(&self, link: &str, fields: &[(&str, &str)]) -> BrowserPage {
        let page = self.get(link).await;
        assert_eq!(page.status, 200, "{}", page.body);
        let csrf = page.hidden("csrf");
        let mut all = vec![("csrf", csrf.as_str())];
        all.extend_from_slice(fields);
        self.post(page.action().as_str(), &all).await
    }

    /// From a link to the page after the callback, by way of the provider.
    pub async fn connect(&self, link: &str, fields: &[(&str, &str)]) -> BrowserPage {
        let begun = self.begin(link, fields).await;
        assert_eq!(begun.status, 303, "{}", begun.body);
        let consented = self.get(&begun.location()).await;
        assert_eq!(consented.status, 302, "{}", consented.body);
        self.get(&consented.location()).await
    }
}

impl BrowserPage {
    /// Where it leads.
    pub fn location(&self) -> String {
        self.header("location")
    }

    /// A header's text; empty without it.
    pub fn header(&self, name: &str) -> String {
        let value = self.headers.get(name);
        value.map_or_else(String::new, |it| it.to_str().unwrap().to_owned())
    }

    /// The value of a hidden field.
    pub fn hidden(&self, name: &str) -> String {
        let marker = format!("type=\"hidden\" name=\"{name}\" value=\"");
        self.between(&marker)
    }

    /// Where its form goes.
    pub fn action(&self) -> Url {
        self.url.join(&self.between("action=\"")).unwrap()
    }

    /// Where the link with these words leads.
    pub fn link(&self, words: &str) -> String {
        let (before, _) = self
            .body
            .split_once(words)
            .unwrap_or_else(|| panic!("no {words}: {}", self.body));
        let (_, rest) = before.rsplit_once("href=\"").unwrap();
        let (target, _) = rest.split_once('"').unwrap();
        self.url.join(target).unwrap().into()
    }

    fn between(&self, marker: &str) -> String {
        let at = self
            .body
            .find(marker)
            .unwrap_or_else(|| panic!("no {marker} in {}", self.body));
        let rest = &self.body[at + marker.len()..];
        rest[..rest.find('"').unwrap()].to_owned()
    }
}
