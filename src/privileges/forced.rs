//! What an emperor demands of a vassal, on its way into the vassal: a variable of its environment, which the vassal's file cannot change.

use imperator_worker::settings::{Isolation, Made, Settings};
use serde::{Deserialize, Serialize};

/// The variable, with a [`Forced`] as JSON. It stays in the master's environment over its reloads, and is kept from apps.
pub const FORCED_ENV: &str = "IMPERATOR_ISOLATION";

/// The demand, and what of it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Forced {
    pub demand: Option<Isolation>,
    pub made: Made,
}

impl Forced {
    /// As the emperor left it; nothing, if there is none.
    ///
    /// # Errors
    /// It is not what an emperor writes.
    pub fn of_environment(env: &[(String, String)]) -> Result<Self, String> {
        let Some((_, text)) = env.iter().find(|(name, _)| name == FORCED_ENV) else { return Ok(Self::default()) };
        serde_json::from_str(text).map_err(|e| format!("{FORCED_ENV}: {e}"))
    }

    /// For the vassal's environment; `None`: there is nothing to tell.
    pub fn to_environment(&self) -> Option<(String, String)> {
        if *self == Self::default() {
            return None;
        }
        Some((FORCED_ENV.to_owned(), serde_json::to_string(self).ok()?))
    }

    /// The settings hold it from now on, and so do those of the vassal's own vassals.
    pub fn hold(self, settings: &mut Settings) {
        settings.isolation.made = self.made;
        if let Some(demand) = self.demand {
            let own = std::mem::take(&mut settings.emperor.isolation);
            settings.emperor.isolation = own.and_from_above(&demand);
            settings.isolation.forced = Some(Box::new(demand));
        }
    }
}

#[cfg(test)]
mod tests {
    use imperator_worker::settings::Level;

    use super::*;

    #[test]
    fn a_demand_comes_through_the_environment_and_holds_below_too() {
        let demand = Isolation { level: Level::Strict, ..Isolation::default() };
        let forced = Forced { demand: Some(demand.clone()), made: Made { tmp: true, ..Made::default() } };
        let env = [forced.to_environment().expect("something")];
        let mut settings = Settings::default();
        Forced::of_environment(&env).expect("read").hold(&mut settings);
        assert_eq!((settings.isolation.measures().files, settings.isolation.made.tmp), (true, true));
        assert_eq!(settings.emperor.isolation.level, Level::Strict);
        assert!(Forced::of_environment(&[(FORCED_ENV.into(), "{".into())]).is_err());
        assert_eq!((Forced::of_environment(&[]), Forced::default().to_environment()), (Ok(Forced::default()), None));
    }
}
