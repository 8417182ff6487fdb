//! A catalogue of stars that never were: long enough to show what a gateway does with long results.

use serde::Serialize;

/// Letters and constellations make the names, as Bayer made them; the figures are invented.
const GREEK: [&str; 24] = [
    "Alpha", "Beta", "Gamma", "Delta", "Epsilon", "Zeta", "Eta", "Theta", "Iota", "Kappa", "Lambda", "Mu",
    "Nu", "Xi", "Omicron", "Pi", "Rho", "Sigma", "Tau", "Upsilon", "Phi", "Chi", "Psi", "Omega",
];
/// Name and genitive.
const CONSTELLATIONS: [(&str, &str); 16] = [
    ("Andromeda", "Andromedae"),
    ("Aquila", "Aquilae"),
    ("Auriga", "Aurigae"),
    ("Cassiopeia", "Cassiopeiae"),
    ("Cygnus", "Cygni"),
    ("Draco", "Draconis"),
    ("Gemini", "Geminorum"),
    ("Hercules", "Herculis"),
    ("Leo", "Leonis"),
    ("Lyra", "Lyrae"),
    ("Orion", "Orionis"),
    ("Pegasus", "Pegasi"),
    ("Perseus", "Persei"),
    ("Scorpius", "Scorpii"),
    ("Taurus", "Tauri"),
    ("Virgo", "Virginis"),
];
/// Hot to cool, with the temperature in kelvin at which each class begins.
const CLASSES: [(&str, u32); 7] = [
    ("O", 30_000),
    ("B", 10_000),
    ("A", 7_500),
    ("F", 6_000),
    ("G", 5_200),
    ("K", 3_700),
    ("M", 2_400),
];
/// Primes with no meaning but to spread what is made of them.
const SPREAD: [u32; 4] = [7_919, 104_729, 1_299_709, 15_485_863];

/// One row of the catalogue.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Star {
    id: String,
    pub(super) name: String,
    pub(super) constellation: &'static str,
    /// Apparent magnitude: the smaller, the brighter.
    pub(super) magnitude: f64,
    distance_ly: u32,
    spectral_class: String,
    temperature_k: u32,
    has_planets: bool,
    observed_on: String,
}

/// Every star, by constellation and letter; the same on each call.
pub(super) fn all() -> Vec<Star> {
    let ranked = || GREEK.iter().enumerate();
    let pairs = CONSTELLATIONS
        .iter()
        .flat_map(|pair| ranked().map(move |greek| (pair, greek)));
    (0..)
        .zip(pairs)
        .map(|(number, ((constellation, genitive), (rank, greek)))| {
            star(number, (constellation, genitive), (rank, greek))
        })
        .collect()
}

/// Names of the constellations.
pub(super) fn constellations() -> Vec<&'static str> {
    CONSTELLATIONS.iter().map(|(name, _)| *name).collect()
}

fn star(number: u32, (constellation, genitive): (&'static str, &str), (rank, greek): (usize, &str)) -> Star {
    let [class, distance, date, planets] = SPREAD.map(|prime| (number + 1).wrapping_mul(prime) >> 3);
    let kind = usize::try_from(class).unwrap_or_default() % CLASSES.len();
    let (name, begins) = CLASSES.get(kind).copied().unwrap_or(("G", 5_200));
    let step = class % 10;
    // Letters were given by brightness, more or less.
    let hundredths = 40 + u32::try_from(rank).unwrap_or_default() * 21 + class % 60;
    Star {
        id: format!("S{:04}", number + 1),
        name: format!("{greek} {genitive}"),
        constellation,
        magnitude: f64::from(hundredths) / 100.0,
        distance_ly: 8 + distance % 1_400,
        spectral_class: format!("{name}{step}"),
        temperature_k: begins + (9 - step) * begins / 40,
        has_planets: planets % 3 == 0,
        observed_on: format!("{}-{:02}-{:02}", 2015 + date % 10, 1 + date % 12, 1 + date % 28),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_long_the_same_each_time_and_names_no_star_twice() {
        let stars = all();
        assert_eq!((stars.len(), &stars), (384, &all()));
        let mut names: Vec<&str> = stars.iter().map(|star| star.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), stars.len());
    }

    #[test]
    fn figures_are_such_as_stars_have() {
        for star in all() {
            assert!((0.0..7.0).contains(&star.magnitude), "{star:?}");
            assert!((2_400..40_000).contains(&star.temperature_k), "{star:?}");
            assert!((8..2_000).contains(&star.distance_ly), "{star:?}");
            assert_eq!(star.observed_on.len(), 10, "{star:?}");
        }
    }
}
