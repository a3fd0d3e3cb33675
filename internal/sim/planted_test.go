package sim

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// The planted faults can still be planted.
func TestPlantedApply(t *testing.T) {
	patches, err := filepath.Glob("testdata/planted/*.patch")
	if err != nil || len(patches) < 40 {
		t.Fatalf("%d planted faults: %v", len(patches), err)
	}
	for _, p := range patches {
		cmd := exec.Command("git", "apply", "--check", filepath.Join("internal/sim", p))
		cmd.Dir = "../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", p, err, out)
		}
	}
}
