package sdkcompat

// What UpdateEndpoint refuses.
var (
	InstancesToServerless = message(validation, Chosen, `Variant "{variant}" has instances and cannot be updated to a serverless variant.`, documentedRule)
	PolicyTwice           = message(validation, Chosen, "DeploymentConfig must not specify both BlueGreenUpdatePolicy and RollingUpdatePolicy.", documentedRule)
	VariantsChanged       = message(validation, Chosen, `With a DeploymentConfig, endpoint configuration "{config}" must have the same variant names as "{present}".`, documentedRule)
	RollingOfMany         = message(validation, Chosen, "RollingUpdatePolicy supports endpoints with one instance-based variant only.", documentedRule)
	SizeMissing           = message(validation, Chosen, "DeploymentConfig requires {member}.", "")
	SizeRange             = message(validation, Chosen, `{member} must be between {least} and {most} percent of the instances of variant "{variant}", which has {count}.`, documentedRule)
	AlarmNotUnique        = message(validation, Chosen, "Each of the Alarms in AutoRollbackConfiguration needs a name of its own.", "")
)

// What FailureReason says of a deployment that was rolled back.
var (
	AlarmRaised    = message(FailureReason, Chosen, "One or more alarms of the AutoRollbackConfiguration went into the ALARM state during the deployment: {alarms}.", "")
	DeploymentLate = message(FailureReason, Chosen, "The deployment did not end within MaximumExecutionTimeoutInSeconds ({seconds}).", "")
	RollbackFailed = message(FailureReason, Chosen, "{reason} The rollback failed as well: {cause}", "")
)

// sagelocal's own routes of alarms.
var (
	InvalidAlarmBody  = message(validation, Chosen, `The body must be JSON such as {"state": "ALARM"}.`, "")
	InvalidAlarmState = message(validation, Chosen, `Alarm state "{state}" is none of OK, ALARM, INSUFFICIENT_DATA.`, "")
	InvalidAlarmName  = message(validation, Chosen, "An alarm's name has 1 to 255 characters.", "the limit is documented")
)
