//! Recipes.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::images::recipe, 4096);
