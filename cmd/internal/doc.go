// Package internal holds what only sagelocal's own commands use.
package internal
