"""What `edgewright package check` looks at: a project's folder, an APK or an AAB."""
