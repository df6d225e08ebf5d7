//! A person with a browser, as far as oidc-provider's pages need one: cookies, redirects, forms.

use std::collections::BTreeMap;

use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Client, RequestBuilder, StatusCode};
use url::Url;

/// More pages than any of these conversations has.
const PAGES: usize = 20;

/// A browser without a history.
pub(crate) struct Browser {
    http: Client,
    cookies: BTreeMap<String, String>,
}

/// What the person sees.
pub(crate) struct Page {
    url: Url,
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

impl Browser {
    /// `http` follows no redirects.
    pub(crate) fn new(http: Client) -> Self {
        Self { http, cookies: BTreeMap::new() }
    }

    /// Opens the address on a device's screen, goes through every page as `name`, and agrees to all of it.
    pub(crate) async fn approve(&mut self, address: &Url, name: &str) -> Page {
        let mut page = self.open(address.clone()).await;
        for _ in 0..PAGES {
            let Some((action, mut fields)) = page.form() else { return page };
            if fields.iter().any(|(_, value)| value == "login") {
                fields.extend([("login".into(), name.into()), ("password".into(), "any".into())]);
            }
            page = self.submit(action, &fields).await;
        }
        panic!("the pages do not end: {}", page.text);
    }

    /// Opens the address, and says no where the code is to be confirmed.
    pub(crate) async fn deny(&mut self, address: &Url) -> Page {
        let page = self.open(address.clone()).await;
        let (action, fields) = page.form().unwrap();
        let page = self.submit(action, &fields).await;
        let (action, mut fields) = page.form().unwrap();
        fields.retain(|(name, _)| name != "confirm");
        fields.push(("abort".into(), "yes".into()));
        self.submit(action, &fields).await
    }

    async fn open(&mut self, url: Url) -> Page {
        let request = self.http.get(url.clone());
        self.follow(url, request).await
    }

    async fn submit(&mut self, action: Url, fields: &[(String, String)]) -> Page {
        let request = self.http.post(action.clone()).form(fields);
        self.follow(action, request).await
    }

    async fn follow(&mut self, mut url: Url, mut request: RequestBuilder) -> Page {
        for _ in 0..PAGES {
            let cookies: Vec<_> =
                self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            #[expect(clippy::disallowed_methods, reason = "no redirects, time-outs set, a server of our own")]
            let answer = request.header(COOKIE, cookies.join("; ")).send().await.unwrap();
            for cookie in answer.headers().get_all(SET_COOKIE) {
                let cookie = cookie.to_str().unwrap().split(';').next().unwrap();
                let (name, value) = cookie.split_once('=').unwrap();
                match value {
                    "" => self.cookies.remove(name),
                    value => self.cookies.insert(name.to_owned(), value.to_owned()),
                };
            }
            let status = answer.status();
            if !status.is_redirection() {
                return Page { url, status, text: answer.text().await.unwrap() };
            }
            url = url.join(answer.headers()[LOCATION].to_str().unwrap()).unwrap();
            request = self.http.get(url.clone());
        }
        panic!("the redirects do not end: {url}");
    }
}

impl Page {
    /// Where its form goes, and the hidden fields in it.
    fn form(&self) -> Option<(Url, Vec<(String, String)>)> {
        let form = self.text.split_once("<form")?.1.split_once("</form>")?.0;
        let hidden = form.split("<input").skip(1).filter(|input| input.contains("type=\"hidden\""));
        let fields = hidden.map(|input| (attribute(input, "name"), attribute(input, "value"))).collect();
        Some((self.url.join(&attribute(form, "action")).unwrap(), fields))
    }
}

/// The first value of this name; none of the provider's has a character that HTML escapes.
fn attribute(html: &str, name: &str) -> String {
    let (_, rest) = html.split_once(&format!("{name}=\"")).unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}
