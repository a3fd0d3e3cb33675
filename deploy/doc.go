// Package deploy has the tests of what is deployed. It and package helm are a module of their own, so that the
// program's has neither helm nor compose in it.
package deploy
