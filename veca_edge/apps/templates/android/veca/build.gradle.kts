plugins {
    alias(libs.plugins.android.library)
    alias(libs.plugins.kotlin.android)
}

android {
    namespace = "veca.edge"
    compileSdk = 36

    defaultConfig {
        minSdk = 29 // PowerManager says how hot the phone is from Android 10 on.
    }
}

kotlin {
    jvmToolchain(17)
    compilerOptions { allWarningsAsErrors = true }
}

dependencies {
    api(project(":core"))
    api(libs.camera.core)
    api(libs.litert)
}
