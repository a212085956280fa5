//! The hop class under load.

use std::time::Duration;

use nonos_identity::Epoch;
use nonos_onion::{Adaptation, Advice, HopBounds, HopClass, Measured, Needs};

use crate::guards::seed;

const NEEDS: Needs = Needs { min_goodput_bytes: 1_000_000, max_rtt: Duration::from_millis(800) };
const SLOW: Measured = Measured { goodput_bytes: 100_000, rtt: Duration::from_millis(300) };
const FAIR: Measured = Measured { goodput_bytes: 1_500_000, rtt: Duration::from_millis(300) };
const AMPLE: Measured = Measured { goodput_bytes: 9_000_000, rtt: Duration::from_millis(300) };

fn start(min: HopClass, max: HopClass, number: u32) -> Adaptation {
    Adaptation::new(HopBounds::new(min, max).unwrap(), NEEDS, Epoch::from_number(0), seed(number))
}

/// The epochs in which the class changed.
fn changes(adaptation: &mut Adaptation, load: impl Fn(u64, HopClass) -> Measured) -> Vec<u64> {
    (1..1000_u32)
        .filter(|&number| {
            let (before, measured) = (adaptation.class(), load(u64::from(number), adaptation.class()));
            let advice = adaptation.advance(Epoch::from_number(number.into()), Some(measured), seed(number));
            assert_eq!(matches!(advice, Advice::Class(_)), adaptation.class() != before);
            adaptation.class() != before
        })
        .map(u64::from)
        .collect()
}

#[test]
fn congestion_never_goes_below_the_bound() {
    // Every path of three relays and more is congested, and none of two.
    let attack = |_, class: HopClass| if class >= HopClass::Three { SLOW } else { AMPLE };
    for number in 0..50 {
        let mut fixed = start(HopClass::Three, HopClass::Three, number);
        assert_eq!(changes(&mut fixed, attack), Vec::<u64>::new());
        let mut wide = start(HopClass::Three, HopClass::Five, number);
        let at = changes(&mut wide, attack);
        assert_eq!((wide.class(), at.len()), (HopClass::Three, 2));
        assert!(
            at[0] > u64::from(Adaptation::SHORTEN_AFTER)
                && at[1] - at[0] > u64::from(Adaptation::SHORTEN_AFTER)
        );
    }
    assert_eq!(HopBounds::default(), HopBounds::new(HopClass::Three, HopClass::Three).unwrap());
    assert!(HopBounds::new(HopClass::Four, HopClass::Three).is_err());
}

#[test]
fn other_relays_come_before_fewer() {
    let mut adaptation = start(HopClass::Two, HopClass::Four, 1);
    let mut advice = Vec::new();
    while adaptation.class() == HopClass::Four {
        let epoch = Epoch::from_number(advice.len() as u64 + 1);
        advice.push(adaptation.advance(epoch, Some(SLOW), seed(2)));
    }
    assert_eq!(advice.pop(), Some(Advice::Class(HopClass::Three)));
    assert!(advice.len() >= Adaptation::SHORTEN_AFTER as usize);
    assert!(advice.iter().all(|advice| *advice == Advice::Reselect));
}

#[test]
fn load_that_comes_and_goes_changes_nothing() {
    for period in 1..=u64::from(Adaptation::SHORTEN_AFTER) {
        let mut adaptation = start(HopClass::Two, HopClass::Four, 3);
        let swing = |number: u64, _| if (number / period).is_multiple_of(2) { SLOW } else { AMPLE };
        assert_eq!(changes(&mut adaptation, swing), Vec::<u64>::new(), "period {period}");
    }
    // What suffices for three but not for four stays at three for hours after each try.
    let mut adaptation = start(HopClass::Three, HopClass::Four, 4);
    let flips = changes(&mut adaptation, |_, class| if class == HopClass::Four { SLOW } else { AMPLE });
    assert!(flips.windows(2).all(|pair| pair[1] - pair[0] > u64::from(Adaptation::SHORTEN_AFTER)));
    let mut adaptation = start(HopClass::Three, HopClass::Four, 4);
    let once = changes(&mut adaptation, |_, class| if class == HopClass::Four { SLOW } else { FAIR });
    assert_eq!(once.len(), 1, "fair is not ample");
}

#[test]
fn only_a_later_epoch_counts() {
    let mut adaptation = start(HopClass::Two, HopClass::Three, 5);
    for _ in 0..100 {
        let _ = adaptation.advance(Epoch::from_number(1), Some(SLOW), seed(5));
        assert_eq!(adaptation.advance(Epoch::from_number(0), Some(SLOW), seed(5)), Advice::Keep);
        assert_eq!(adaptation.advance(Epoch::from_number(9), None, seed(5)), Advice::Keep);
    }
    assert_eq!(adaptation.class(), HopClass::Three);
}

#[test]
fn clients_do_not_change_in_step() {
    let at = |number| changes(&mut start(HopClass::Two, HopClass::Three, number), |_, _| SLOW)[0];
    let times: std::collections::BTreeSet<_> = (0..60).map(at).collect();
    assert_eq!(times.len(), 1 + Adaptation::MAX_PATIENCE as usize);
}
