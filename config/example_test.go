package config_test

import (
	"fmt"
	"os"

	"github.com/pgweir/pgweir/config"
)

// A file says what differs from the defaults. All that is wrong is told at once, with its line.
func ExampleParse() {
	c, err := config.Parse("pgweir.yaml", []byte("servers: [db1, db2:5433]\nauth: {method: trust}\n"), os.LookupEnv)
	fmt.Println(c.Listen, c.Clusters["default"].Servers, c.Pool.Size, err)

	_, err = config.Parse("pgweir.yaml", []byte("servers: [db1]\nauth: {method: trust}\npool: {size: -1, mod: session}\n"), os.LookupEnv)
	fmt.Println(err)
	// Output:
	// [127.0.0.1:6432] [{db1:5432 1 0 } {db2:5433 1 0 }] 20 <nil>
	// line 3: pool.mod: unknown key; did you mean mode?
	// line 3: pool.size: must not be negative, found -1
}
