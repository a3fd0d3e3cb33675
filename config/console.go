package config

import "slices"

// Operators are for who looks after the service. It only groups keys.
type Operators struct {
	Insight Insight `yaml:"insight"`
	Tracing Tracing `yaml:"tracing"`
	Log     Log     `yaml:"log"`
	Console Console `yaml:"console"`
}

// Console is who may use the admin console: the databases pgweir and pgbouncer, as long as
// somebody may.
type Console struct {
	// AdminUsers may give commands there, StatsUsers only SHOW.
	AdminUsers []string `yaml:"admin_users"`
	StatsUsers []string `yaml:"stats_users"`
}

// consoleNames are the databases that are the console.
var consoleNames = []string{"pgweir", "pgbouncer"}

// Is reports whether a database is the console.
func (c Console) Is(database string) bool {
	return len(c.AdminUsers)+len(c.StatsUsers) > 0 && slices.Contains(consoleNames, database)
}

// Admits reports whether a user may look, and whether they may command.
func (c Console) Admits(user string) (show, command bool) {
	command = slices.Contains(c.AdminUsers, user)
	return command || slices.Contains(c.StatsUsers, user), command
}

func (c *Config) checkConsole(fs *Faults) {
	for _, name := range consoleNames {
		if _, taken := c.Databases[name]; taken && c.Console.Is(name) {
			fs.add("databases."+name, "is the admin console as long as console.admin_users or console.stats_users names somebody; give clients another name for it")
		}
	}
}
