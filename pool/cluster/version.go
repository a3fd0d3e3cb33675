package cluster

import "fmt"

// The PostgreSQL releases this proxy is made for.
const (
	oldestVersion = 15
	newestVersion = 18
)

// Supported is the error of a server whose server_version_num is of another release.
func Supported(version int) error {
	if major := version / 10000; major < oldestVersion || major > newestVersion {
		return fmt.Errorf("it runs PostgreSQL %d; supported are %d to %d", major, oldestVersion, newestVersion)
	}
	return nil
}
