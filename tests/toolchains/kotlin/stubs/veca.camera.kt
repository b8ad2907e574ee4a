// What the Android Gradle plugin generates for the app.
package veca.camera

object BuildConfig {
    const val LITERT = "stand-in"
}
