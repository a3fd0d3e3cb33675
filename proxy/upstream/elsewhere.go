package upstream

// CommittedElsewhere says that something may have been committed in any database, by now,
// that is not known here.
func (dir *Directory) CommittedElsewhere() {
	dir.mu.Lock()
	defer dir.mu.Unlock()
	dir.dropped = true // of databases that are not here nothing is known either
	for _, d := range dir.databases {
		d.Commits.OnNotification()
	}
}
