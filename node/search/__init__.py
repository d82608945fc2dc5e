"""Search: an index of one's own that follows the catalog, and Meilisearch where there is one."""
