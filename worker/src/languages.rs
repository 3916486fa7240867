//! Several languages in one worker: which of them answers a request.

use std::sync::Arc;

use crate::control::App;
use crate::language::{After, Language};
use crate::mounts::{Ask, choose};
use crate::request::Request;
use crate::settings::RequestSettings;

/// Languages side by side, the first being the one that mount points of the others take requests away from.
///
/// modifier1 tells them apart: a request with a modifier of another language than the first goes there. One with the first's goes to whoever has the app
/// at its mount point. A worker with one language has no such thing between its loop and that language.
pub struct Languages {
    languages: Vec<Arc<dyn Language>>,
    modifiers: Vec<u8>,
    /// The language of each modifier1; the first one's for all that are nobody's.
    owners: Box<[u8; 256]>,
    settings: RequestSettings,
    /// Mount points of all languages' apps, and whose they are. Empty if none but the first language has any.
    points: Vec<Vec<u8>>,
    point_owners: Vec<usize>,
}

impl Languages {
    /// `languages` are at most 255, each with its apps loaded.
    pub fn new(languages: Vec<Arc<dyn Language>>, settings: &RequestSettings) -> Self {
        let mut owners = Box::new([0; 256]);
        for (language, owner) in languages.iter().zip(0..=u8::MAX).rev() {
            language.modifiers().iter().for_each(|modifier| owners[usize::from(*modifier)] = owner);
        }
        let mut this = Self {
            modifiers: languages.iter().flat_map(|language| language.modifiers().to_vec()).collect(),
            languages,
            owners,
            settings: settings.clone(),
            points: vec![],
            point_owners: vec![],
        };
        this.find_mounts();
        this
    }

    fn find_mounts(&mut self) {
        for (owner, language) in self.languages.iter().enumerate() {
            // An app without a mount point is the language's default: its modifier leads there.
            for app in language.apps().into_iter().filter(|app| owner == 0 || !app.mountpoint.is_empty()) {
                self.points.push(app.mountpoint.into_bytes());
                self.point_owners.push(owner);
            }
        }
        if self.point_owners.iter().all(|owner| *owner == 0) {
            self.points.clear();
        }
    }

    fn of(&self, request: &Request<'_>) -> &dyn Language {
        let by_modifier = usize::from(self.owners[usize::from(request.modifier1())]);
        let owner = if by_modifier == 0 && !self.points.is_empty() { self.by_mount(&ask(request)) } else { by_modifier };
        &*self.languages[owner.min(self.languages.len() - 1)]
    }

    fn by_mount(&self, ask: &Ask<'_>) -> usize {
        let point = choose(&self.points, &self.settings, ask).app;
        point.and_then(|point| self.point_owners.get(point)).copied().unwrap_or(0)
    }
}

/// What a request says of the app that it is for.
pub fn ask<'r>(request: &'r Request<'_>) -> Ask<'r> {
    Ask {
        app_id: request.var(b"UWSGI_APPID"),
        script_name: request.var(b"SCRIPT_NAME"),
        path_info: request.var(b"PATH_INFO").unwrap_or_default(),
        host: request.var(b"HTTP_HOST"),
        server_name: request.var(b"SERVER_NAME"),
        modifier1: request.modifier1(),
    }
}

impl Language for Languages {
    fn name(&self) -> String {
        self.languages.iter().map(|language| language.name()).collect::<Vec<_>>().join(", ")
    }

    fn modifiers(&self) -> &[u8] {
        &self.modifiers
    }

    fn apps(&self) -> Vec<App> {
        self.languages.iter().flat_map(|language| language.apps()).collect()
    }

    fn enter_thread(&self, core: u32) {
        self.languages.iter().for_each(|language| language.enter_thread(core));
    }

    fn leave_thread(&self, core: u32) {
        self.languages.iter().rev().for_each(|language| language.leave_thread(core));
    }

    fn serve(&self, request: &mut Request<'_>) -> After {
        self.of(request).serve(request)
    }

    /// One of them runs it, and the others know nothing of it.
    fn interrupt(&self, core: u32) -> bool {
        // Only the one that serves that core has something to interrupt.
        self.languages.iter().any(|language| language.interrupt(core))
    }

    fn teardown(&self) {
        self.languages.iter().rev().for_each(|language| language.teardown());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has apps at the given mount points.
    struct Fake(&'static [u8], &'static [&'static str]);

    impl Language for Fake {
        fn name(&self) -> String {
            format!("fake {}", self.0[0])
        }

        fn modifiers(&self) -> &[u8] {
            self.0
        }

        fn apps(&self) -> Vec<App> {
            let app =
                |point: &&str| App { id: 0, modifier1: self.0[0], mountpoint: (*point).into(), startup_time: 0, chdir: String::new() };
            self.1.iter().map(app).collect()
        }

        fn enter_thread(&self, _core: u32) {}

        fn leave_thread(&self, _core: u32) {}

        fn serve(&self, _request: &mut Request<'_>) -> After {
            After::Continue
        }

        fn teardown(&self) {}
    }

    fn languages(first: &'static [&'static str], second: &'static [&'static str], managed: bool) -> Languages {
        let settings = RequestSettings { manage_script_name: managed, ..RequestSettings::default() };
        Languages::new(vec![Arc::new(Fake(&[0, 30], first)), Arc::new(Fake(&[6], second))], &settings)
    }

    #[test]
    fn modifiers_lead_to_their_language() {
        let languages = languages(&[""], &[""], false);
        assert_eq!((languages.owners[0], languages.owners[30], languages.owners[6], languages.owners[9]), (0, 0, 1, 0));
        assert_eq!(languages.modifiers(), [0, 30, 6]);
        assert_eq!(languages.name(), "fake 0, fake 6");
        assert!(languages.points.is_empty(), "no mount points: nothing to compare");
    }

    #[test]
    fn a_mount_point_takes_requests_from_the_first_language() {
        let languages = languages(&["", "/lua/py"], &["/lua"], true);
        let by_path = |path: &'static str| languages.by_mount(&Ask { path_info: path.as_bytes(), ..Ask::default() });
        assert_eq!(["/", "/x", "/luax", "/lua", "/lua/x", "/lua/py/x"].map(by_path), [0, 0, 0, 1, 1, 0]);
        let named = languages.by_mount(&Ask { script_name: Some(b"/lua"), ..Ask::default() });
        assert_eq!(named, 1);
    }
}
