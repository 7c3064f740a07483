// Package dataplane carries invocations: the published fleet, the routers, the
// pools that count outstanding requests, and what every kind of worker has in
// common. It knows nothing of the control plane or of the store.
package dataplane

// Key names an endpoint across accounts and regions. Name is the endpoint's
// name in lower case, as in its ARN.
type Key struct {
	Account, Region, Name string
}
