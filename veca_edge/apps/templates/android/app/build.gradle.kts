import java.util.Properties
import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
    alias(libs.plugins.kotlin.compose)
}

val bundle = Properties().apply {
    file("../core/src/main/resources/veca.properties").inputStream().use(::load)
}

android {
    namespace = "veca.camera"
    compileSdk = 36

    defaultConfig {
        applicationId = "veca.camera"
        minSdk = 29
        targetSdk = 36
        versionCode = 1
        versionName = "1.0"
        testInstrumentationRunner = "androidx.test.runner.AndroidJUnitRunner"
        buildConfigField("String", "LITERT", "\"${libs.versions.litert.get()}\"")
        // Escaped as Android's resources want it: quotes, backslashes, a leading @ or ?.
        resValue("string", "app_name", bundle.getProperty("app.label"))
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    androidResources { noCompress += "tflite" } // It is mapped into memory as it is.

    buildFeatures {
        compose = true
        resValues = true
        buildConfig = true
    }
}

kotlin {
    compilerOptions {
        jvmTarget = JvmTarget.JVM_17
        allWarningsAsErrors = true
    }
}

dependencies {
    implementation(project(":veca"))
    implementation(libs.camera.camera2)
    implementation(libs.camera.lifecycle)
    implementation(libs.activity.compose)
    implementation(libs.lifecycle.viewmodel.compose)
    implementation(platform(libs.compose.bom))
    implementation(libs.compose.material3)
    androidTestImplementation(libs.androidx.test.runner)
    androidTestImplementation(libs.junit)
}
