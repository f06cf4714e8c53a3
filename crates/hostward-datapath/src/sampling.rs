//! Samples of endpoints' packets: rates into the datapath, samples and exact counts out of it (`bpf/sample.h`).

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;

use hostward_abi as abi;
use hostward_abi::sampling_bits;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use zerocopy::FromBytes as _;
use zerocopy::FromZeros as _;
use zerocopy::IntoBytes as _;

use crate::error::Result;
use crate::error::invalid;
use crate::error::libbpf;
use crate::tables::Datapath;

/// The sparsest rate: one packet in so many. What the fixed point of [`sampling_word`] has room for.
pub const SPARSEST: u32 = 10_000_000;

/// What has been sampled of an endpoint since its slot was given to it, on all CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleCounts {
    /// Packets that could have been taken: all that came while it was sampled.
    pub pool: u64,
    /// Packets that were taken.
    pub taken: u64,
    /// Of those, the ones for which the ring had no space.
    pub lost: u64,
}

/// One packet that was taken.
#[derive(Clone, Copy, Debug)]
pub struct TakenSample {
    /// As the datapath gave it.
    pub sample: abi::Sample,
    /// Packets of its endpoint that could have been taken up to then: of each CPU, up to its last sample.
    pub pool: u64,
    /// Samples of its endpoint that were lost up to then.
    pub lost: u64,
}

/// By slot, and for each CPU: pool and losses as its last sample told them.
pub(crate) type Pools = Mutex<HashMap<u32, HashMap<u32, (u64, u64)>>>;

/// The word of `hw_endpoint.sampling` for one packet in `rate`; 0 for none.
#[must_use]
pub fn sampling_word(rate: u32) -> u64 {
    let rate = rate.min(SPARSEST);
    let scale = match rate {
        0 => return 0,
        // Every packet: each distance is 1.
        1 => 0,
        _ => {
            let fraction = f64::from(1u32 << sampling_bits::SAMPLING_FRACTION_BITS);
            let exact = fraction / -(-f64::from(rate).recip()).ln_1p() * std::f64::consts::LN_2;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 2^39 and positive")]
            let rounded = exact.round() as u64;
            rounded
        }
    };
    u64::from(rate) << sampling_bits::SAMPLING_RATE_SHIFT | scale
}

impl Datapath {
    /// What has been sampled of a slot's endpoint; slot 0 is all that are gone.
    ///
    /// # Errors
    /// The slot is beyond the capacity.
    pub fn read_samples(&self, slot: u32) -> Result<SampleCounts> {
        Ok(self.samplers(slot)?.iter().fold(SampleCounts::default(), |sum, cpu| SampleCounts {
            pool: sum.pool + cpu.pool,
            taken: sum.taken + cpu.taken,
            lost: sum.lost + cpu.lost,
        }))
    }

    /// Takes at most `limit` samples; never waits.
    ///
    /// # Errors
    /// The ring cannot be read.
    pub fn drain_samples(&self, limit: usize) -> Result<Vec<TakenSample>> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        for sample in self.samples.drain(limit)? {
            let known = pools.entry(sample.slot).or_default();
            let cpu = known.entry(sample.cpu).or_default();
            // Of a sample that was waiting when the datapath was opened, what was read then is from later.
            *cpu = (sample.pool.max(cpu.0), sample.lost.max(cpu.1));
            let (pool, lost) = known.values().fold((0, 0), |sum, cpu| (sum.0 + cpu.0, sum.1 + cpu.1));
            taken.push(TakenSample { sample, pool, lost });
        }
        Ok(taken)
    }

    /// Reads what was counted before the datapath was opened, so that the pools of samples go on from there.
    pub(crate) fn read_pools(&self) -> Result<()> {
        for slot in 1..self.capacity().endpoints {
            let cpus = (0..).zip(self.samplers(slot)?).filter(|(_, cpu)| cpu.pool > 0);
            let known: HashMap<u32, (u64, u64)> = cpus.map(|(number, cpu)| (number, (cpu.pool, cpu.lost))).collect();
            if !known.is_empty() {
                self.pools.lock().unwrap_or_else(PoisonError::into_inner).insert(slot, known);
            }
        }
        Ok(())
    }

    /// What was known of a slot's endpoint is not of the next one.
    pub(crate) fn forget_pool(&self, slot: u32) {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).remove(&slot);
    }

    fn samplers(&self, slot: u32) -> Result<Vec<abi::Sampler>> {
        let map = self.maps.get("hw_samplers");
        let values = map.lookup_percpu(&slot.to_ne_bytes(), MapFlags::ANY).map_err(libbpf("read", "hw_samplers"))?;
        let values = values.ok_or_else(|| invalid("hw_samplers", format!("no slot {slot}")))?;
        // Each CPU's value is padded to eight bytes.
        Ok(values.iter().filter_map(|value| abi::Sampler::read_from_prefix(value).ok().map(|(cpu, _)| cpu)).collect())
    }

    /// Adds what was sampled of a slot to what was of all that are gone, and starts it anew.
    pub(crate) fn retire_samplers(&self, slot: u32, gone: u32) -> Result<()> {
        self.forget_pool(slot);
        let leaving = self.samplers(slot)?;
        let mut sums = self.samplers(gone)?;
        for (sum, cpu) in sums.iter_mut().zip(&leaving) {
            sum.pool += cpu.pool;
            sum.taken += cpu.taken;
            sum.lost += cpu.lost;
        }
        let anew = vec![abi::Sampler::new_zeroed(); leaving.len()];
        for (element, cpus) in [(gone, &sums), (slot, &anew)] {
            let values: Vec<Vec<u8>> = cpus.iter().map(|cpu| cpu.as_bytes().to_vec()).collect();
            let map = self.maps.get("hw_samplers");
            map.update_percpu(&element.to_ne_bytes(), &values, MapFlags::ANY)
                .map_err(libbpf("write", "hw_samplers"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRACTION: u32 = sampling_bits::SAMPLING_FRACTION_BITS;
    const SHIFT: u32 = sampling_bits::SAMPLING_RATE_SHIFT;
    const LOG_BITS: u32 = 30;

    /// `bpf/skip.h: negative_log2`, line by line.
    fn negative_log2(random: u32) -> u64 {
        let x = u64::from(random) + 1;
        let place = x.ilog2();
        let mantissa = x << (32 - place) & 0xffff_ffff;
        let f = (mantissa >> (32 - LOG_BITS)).cast_signed();
        let terms = [131_955_457, -302_046_434, 494_641_002, -772_260_434, 1_549_038_015];
        let sum = terms.iter().fold(-27_585_783i64, |sum, term| ((sum * f) >> LOG_BITS) + term);
        (u64::from(32 - place) << LOG_BITS) - ((sum * f) >> LOG_BITS).cast_unsigned()
    }

    /// `bpf/skip.h: draw_skip`.
    fn draw_skip(sampling: u64, random: u32) -> u64 {
        let scale = sampling & ((1 << SHIFT) - 1);
        let log = negative_log2(random);
        1 + ((log * (scale >> FRACTION) + ((log * (scale & ((1 << FRACTION) - 1))) >> FRACTION)) >> LOG_BITS)
    }

    #[test]
    fn the_logarithm_is_right_to_a_hundred_thousandth() {
        // Every 4,099th of all words, and both ends.
        for random in (0..=u32::MAX).step_by(4_099).chain([0, 1, 2, u32::MAX - 1, u32::MAX]) {
            let exact = -((f64::from(random) + 1.0) / 4_294_967_296.0).log2();
            #[expect(clippy::cast_precision_loss, reason = "below 2^36")]
            let found = negative_log2(random) as f64 / f64::from(1u32 << LOG_BITS);
            assert!((found - exact).abs() < 8e-6, "{random}: {found} is not {exact}");
        }
    }

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "what is compared is exact to far less")]
    fn the_mean_distance_is_the_rate() {
        // Evenly spaced words in place of random ones: the mean over them is the integral.
        const STEP: usize = 257;
        for rate in [1, 2, 3, 7, 10, 100, 1_000, 65_536, SPARSEST] {
            let (mut sum, mut count) = (0u128, 0u32);
            for random in (0..=u32::MAX).step_by(STEP) {
                sum += u128::from(draw_skip(sampling_word(rate), random));
                count += 1;
            }
            let mean = sum as f64 / f64::from(count);
            assert!((mean / f64::from(rate) - 1.0).abs() < 5e-5, "1/{rate}: {mean}");
        }
    }

    #[test]
    fn each_distance_is_as_likely_as_it_ought_to_be() {
        // P(distance > k) = (1 - 1/N)^k.
        const STEP: usize = 997;
        for (rate, k) in [(2u32, 1u64), (2, 3), (10, 1), (10, 10), (10, 40), (1_000, 100), (1_000, 3_000)] {
            let (mut over, mut count) = (0u32, 0u32);
            for random in (0..=u32::MAX).step_by(STEP) {
                over += u32::from(draw_skip(sampling_word(rate), random) > k);
                count += 1;
            }
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let exact = (1.0 - f64::from(rate).recip()).powf(k as f64);
            let found = f64::from(over) / f64::from(count);
            assert!((found - exact).abs() < 2e-5, "1/{rate} beyond {k}: {found} is not {exact}");
        }
    }

    #[test]
    fn a_word_says_its_rate() {
        for rate in [1, 2, 1_000, SPARSEST] {
            assert_eq!(sampling_word(rate) >> SHIFT, u64::from(rate));
        }
        assert_eq!(sampling_word(0), 0);
        assert_eq!(draw_skip(sampling_word(1), 0), 1);
    }
}
