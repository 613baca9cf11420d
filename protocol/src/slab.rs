//! Places with generations: a key of a place that was vacated finds nothing, whoever has it now.

use crate::limits::SLOTS_MAX;

/// Index of a place plus one in the low bits, its generation above. Never 0, never `u64::MAX`.
pub(crate) type Key = u64;

#[derive(Clone, Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Place<T>>,
    vacant: Vec<u32>,
    max: usize,
}

#[derive(Clone, Debug)]
struct Place<T> {
    generation: u64,
    content: Option<T>,
}

impl<T> Slab<T> {
    pub(crate) fn new(max: usize) -> Self {
        Self { places: Vec::new(), vacant: Vec::new(), max: max.min(SLOTS_MAX) }
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.vacant.len()
    }

    /// The content is dropped if there is no place for it.
    pub(crate) fn insert(&mut self, content: T) -> Option<Key> {
        if let Some(index) = self.vacant.pop() {
            let place = &mut self.places[index as usize];
            place.content = Some(content);
            return Some(key(index as usize, place.generation));
        }
        if self.places.len() == self.max {
            return None;
        }
        self.places.push(Place { generation: 0, content: Some(content) });
        Some(key(self.places.len() - 1, 0))
    }

    #[inline]
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let place = self.places.get(index(key))?;
        if place.generation == key >> INDEX_BITS { place.content.as_ref() } else { None }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.places.get_mut(index(key))?;
        if place.generation == key >> INDEX_BITS { place.content.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let index = index(key);
        let place = self.places.get_mut(index)?;
        if place.generation != key >> INDEX_BITS {
            return None;
        }
        let content = place.content.take()?;
        // At a million a second through one place, a key comes round again after twelve days.
        place.generation = (place.generation + 1) & GENERATION_MAX;
        self.vacant.push(index as u32);
        Some(content)
    }

    /// In the order of places, which tells nothing of age.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            place.content.as_ref().map(|content| (key(index, place.generation), content))
        })
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.iter().map(|(key, _)| key).collect()
    }
}

const INDEX_BITS: u32 = 24;
const GENERATION_MAX: u64 = u64::MAX >> INDEX_BITS;

fn key(index: usize, generation: u64) -> Key {
    generation << INDEX_BITS | (index as u64 + 1)
}

/// Of key 0, which is no place's, an index beyond all of them.
#[inline]
fn index(key: Key) -> usize {
    ((key as usize) & ((1 << INDEX_BITS) - 1)).wrapping_sub(1)
}
