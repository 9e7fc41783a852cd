//! Golden images: recipes, import, the content-addressed store.
