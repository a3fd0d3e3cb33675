// Command figures prints the shape of the tree: the size of its packages, types and
// functions, and the largest cycle of files in each package.
//
//	go run ./internal/arch/figures [directory of the module]
package main

import (
	"fmt"
	"os"

	"github.com/pgweir/pgweir/internal/arch"
)

func main() {
	root := "."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	f, err := arch.Measure(root)
	if err == nil {
		err = f.Print(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}
