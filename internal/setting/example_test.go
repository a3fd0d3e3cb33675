package setting_test

import (
	"fmt"

	"github.com/pgweir/pgweir/internal/setting"
)

// A connection that served one tenant is brought to what another session has set.
func ExampleSettings_Diff() {
	carries := setting.From(map[string]string{"role": "tenant_a", "app.current_org_id": "1", "work_mem": "64MB"})
	wanted := setting.From(map[string]string{"app.current_org_id": "2"})
	for _, c := range carries.Diff(wanted) {
		if c.Reset {
			fmt.Println("RESET", c.Name)
		} else {
			fmt.Println("SET", c.Name, "=", c.Value)
		}
	}
	fmt.Println(wanted == setting.Settings{}.With("APP.current_org_id", "2"))
	// Output:
	// RESET role
	// RESET work_mem
	// SET app.current_org_id = 2
	// true
}

func ExampleOptions() {
	settings, rest := setting.Options(`-c search_path=a,\ b --work-mem=64MB -E`)
	fmt.Println(settings, rest)
	// Output: map[search_path:a, b work_mem:64MB] [-E]
}
