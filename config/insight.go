package config

// check adds what is wrong with the insight section.
func (i Insight) check(fs *Faults) {
	for _, x := range []struct {
		key   string
		value int64
	}{
		{"max_statements", int64(i.MaxStatements)}, {"max_bytes", int64(i.MaxBytes)},
		{"rows", int64(i.Rows)}, {"bytes", int64(i.Bytes)}, {"idle", int64(i.Idle)},
		{"plans.interval", int64(i.Plans.Interval)}, {"plans.timeout", int64(i.Plans.Timeout)},
		{"files", int64(i.Files)}, {"dir_bytes", int64(i.DirBytes)},
	} {
		if x.value <= 0 {
			fs.add("insight."+x.key, "must be more than 0")
		}
	}
	if i.Plans.Enabled && !i.Enabled {
		fs.add("insight.plans.enabled", "needs insight.enabled: plans are those of statements that are counted")
	}
	checkNames(fs, "insight.exempt_applications", i.ExemptApplications)
}
